namespace KvCacheGpu;

/// <summary>E001: the budget, the tables or the sequences do not suffice. Nothing has changed; freeing, truncating or a smaller step may help.</summary>
public sealed class KvOutOfMemoryException : KvCacheException
{
    /// <summary>Whether only working memory is missing, which another step holds: the same call can succeed once that step has ended.</summary>
    public bool IsTransient { get; internal init; }

    internal KvOutOfMemoryException(string what, string expected, string actual, Exception? inner = null)
        : base("E001", what, expected, actual, inner)
    {
    }
}
