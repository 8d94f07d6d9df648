namespace KvCacheGpu.Cli;

/// <summary>The input or the usage is wrong. One line, exit code 2.</summary>
internal sealed class UsageException : Exception
{
    /// <summary>Makes the error of an option or input.</summary>
    /// <param name="what">The option or input.</param>
    /// <param name="expected">The values that it takes.</param>
    /// <param name="actual">The value that it was given.</param>
    /// <param name="code">E002 if something is not there, E003 if it is there and wrong. The default value is E003.</param>
    public UsageException(string what, string expected, string actual, string code = "E003")
        : base($"{code}: {what}: expected {expected}, got {actual}")
    {
    }

    /// <summary>Makes the error of an input that the library refused.</summary>
    public UsageException(KvCacheException error)
        : base(error.Message, error)
    {
    }
}
