namespace KvCacheGpu;

/// <summary>E009: this device, format or policy does not offer what was asked.</summary>
public sealed class KvUnsupportedException : KvCacheException
{
    internal KvUnsupportedException(string what, string expected, string actual, Exception? inner = null)
        : base("E009", what, expected, actual, inner)
    {
    }
}
