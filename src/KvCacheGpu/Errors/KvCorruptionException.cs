namespace KvCacheGpu;

/// <summary>E004: stored bytes are not what was written: altered, cut short, or made up. Nothing of them was used.</summary>
public sealed class KvCorruptionException : KvCacheException
{
    internal KvCorruptionException(string what, string expected, string actual, Exception? inner = null)
        : base("E004", what, expected, actual, inner)
    {
    }
}
