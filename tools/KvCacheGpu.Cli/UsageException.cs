namespace KvCacheGpu.Cli;

/// <summary>Input or usage that is wrong: one line, exit 2.</summary>
internal sealed class UsageException : Exception
{
    /// <summary>Says what is wrong.</summary>
    /// <param name="what">The option or input.</param>
    /// <param name="expected">What it takes.</param>
    /// <param name="actual">What it was given.</param>
    /// <param name="code">E002 where something is not there, E003 where it is there and wrong. The default value is E003.</param>
    public UsageException(string what, string expected, string actual, string code = "E003")
        : base($"{code}: {what}: expected {expected}, got {actual}")
    {
    }

    /// <summary>What the library refused, where it is the input that is wrong.</summary>
    public UsageException(KvCacheException error)
        : base(error.Message, error)
    {
    }
}
