namespace KvCacheGpu;

/// <summary>E007: written by a later version of this library. The files are untouched.</summary>
public sealed class KvNewerVersionException : KvCacheException
{
    internal KvNewerVersionException(string what, string expected, string actual, Exception? inner = null)
        : base("E007", what, expected, actual, inner)
    {
    }
}
