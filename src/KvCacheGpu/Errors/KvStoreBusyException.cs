namespace KvCacheGpu;

/// <summary>E006: another process or store is writing there. Nothing has changed; trying again later may help.</summary>
public sealed class KvStoreBusyException : KvCacheException
{
    internal KvStoreBusyException(string what, string expected, string actual, Exception? inner = null)
        : base("E006", what, expected, actual, inner)
    {
    }
}
