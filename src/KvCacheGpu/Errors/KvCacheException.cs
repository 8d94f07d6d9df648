namespace KvCacheGpu;

/// <summary>What the cache refuses or fails at: a code that stays the same from version to version, what was expected, what was there.</summary>
/// <remarks>
/// Codes are of these errors alone. An argument that no cache takes is an <see cref="ArgumentException"/> or a child of it, a call on what was disposed
/// an <see cref="ObjectDisposedException"/>: errors of the calling code, which have no code.
/// </remarks>
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
