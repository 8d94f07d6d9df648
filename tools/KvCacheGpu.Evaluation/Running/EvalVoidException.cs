namespace KvCacheGpu.Evaluation;

/// <summary>The run says nothing about caches: the model does not recall through a full cache, or nothing was compressed.</summary>
public sealed class EvalVoidException : Exception
{
    /// <summary>Says why.</summary>
    public EvalVoidException(string reason)
        : base($"E009: eval: {reason}: the run is void")
    {
    }
}
