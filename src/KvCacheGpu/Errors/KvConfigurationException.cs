namespace KvCacheGpu;

/// <summary>E003: a configuration that no cache can be made of. A budget that is too small names the least that works.</summary>
public sealed class KvConfigurationException : KvCacheException
{
    internal KvConfigurationException(string what, string expected, string actual, Exception? inner = null)
        : base("E003", what, expected, actual, inner) => Setting = what;

    /// <summary>The setting, "MaxTokens", or what else is meant.</summary>
    public string Setting { get; }
}
