namespace KvCacheGpu;

/// <summary>E002: no snapshot, store or key of that name.</summary>
public sealed class KvSnapshotNotFoundException : KvCacheException
{
    internal KvSnapshotNotFoundException(string what, string expected, string actual, Exception? inner = null)
        : base("E002", what, expected, actual, inner)
    {
    }
}
