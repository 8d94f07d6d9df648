namespace KvCacheGpu;

/// <summary>What the cache refuses or fails at: a code that stays the same from version to version, what was expected, what was there.</summary>
public abstract class KvCacheException : Exception
{
    private protected KvCacheException(string code, string what, string expected, string actual, Exception? inner = null)
        : base($"{code}: {what}: expected {expected}, got {actual}", inner)
    {
        (Code, Expected, Actual) = (code, expected, actual);
    }

    /// <summary>The error's code, "E001".</summary>
    public string Code { get; }

    /// <summary>What the cache needed.</summary>
    public string Expected { get; }

    /// <summary>What it met.</summary>
    public string Actual { get; }
}
