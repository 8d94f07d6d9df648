namespace KvCacheGpu;

/// <summary>E006: a sequence or step is in use: by another thread at this moment, or by a step that has not ended. Nothing has changed.</summary>
public sealed class KvConcurrencyException : KvCacheException
{
    internal KvConcurrencyException(string what, string expected, string actual, Exception? inner = null)
        : base("E006", what, expected, actual, inner)
    {
    }
}
