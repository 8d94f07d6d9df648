namespace KvCacheGpu;

/// <summary>Threads, warm-up and timings.</summary>
/// <remarks>Thread safety: it is set up by one thread; whoever takes it, takes a copy.</remarks>
public sealed record KvExecutionOptions
{
    /// <summary>True if transfers to and from disk use <see cref="AsyncThreads"/> workers, false if one (<c>enable_async</c>). The default value is true.</summary>
    public bool EnableAsync { get; set; } = true;

    /// <summary>Workers of transfers, 1..64 (<c>async_threads</c>). The default value is 2.</summary>
    public int AsyncThreads { get; set; } = 2;

    /// <summary>True if kernels are compiled and pages touched when the engine is made (<c>enable_warmup</c>). The default value is false.</summary>
    public bool EnableWarmup { get; set; }

    /// <summary>Tokens that the warm-up appends and attends to, at least 1, and as many as fit (<c>warmup_samples</c>). The default value is 100.</summary>
    public int WarmupSamples { get; set; } = 100;

    /// <summary>True if calls are timed (<c>enable_profiling</c>): <see cref="KvEngineStats.Times"/> then has percentiles. The default value is false.</summary>
    public bool EnableProfiling { get; set; }
}
