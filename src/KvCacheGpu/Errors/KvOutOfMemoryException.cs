namespace KvCacheGpu;

/// <summary>E001: the budget, the tables or the sequences do not suffice. Nothing has changed; freeing, truncating or a smaller step may help.</summary>
public sealed class KvOutOfMemoryException : KvCacheException
{
    internal KvOutOfMemoryException(string what, string expected, string actual, Exception? inner = null)
        : base("E001", what, expected, actual, inner)
    {
    }
}
