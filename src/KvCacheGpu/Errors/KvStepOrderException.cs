namespace KvCacheGpu;

/// <summary>E009: a step's calls came out of order: a layer before its turn, attention before its append, a commit before the last layer. The step can go on.</summary>
public sealed class KvStepOrderException : KvCacheException
{
    internal KvStepOrderException(string what, string expected, string actual, Exception? inner = null)
        : base("E009", what, expected, actual, inner)
    {
    }
}
