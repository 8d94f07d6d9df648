namespace KvCacheGpu.Serving;

/// <summary>Names by which a host listens to schedulers. Thread safety: constants.</summary>
public static class KvServingDiagnostics
{
    /// <summary>
    /// The meter: requests by how they ended, tokens by kind, preemptions, times to the first token and between tokens in seconds, tokens of steps.
    /// </summary>
    public const string MeterName = "KvCacheGpu.Serving";
}
