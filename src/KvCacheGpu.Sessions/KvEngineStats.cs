namespace KvCacheGpu;

/// <summary>Counts of an engine: what it holds, and what it has done so far.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
public sealed record KvEngineStats
{
    /// <summary>Sessions.</summary>
    public required int Sessions { get; init; }

    /// <summary>Tokens over all sessions, evicted ones counted.</summary>
    public required long Tokens { get; init; }

    /// <summary>Tokens that the policy has evicted, the mean over layers and KV heads, over all sessions.</summary>
    public required double EvictedTokens { get; init; }

    /// <summary>Calls of Get that found their token.</summary>
    public required long Hits { get; init; }

    /// <summary>Calls of Get that did not: it was never put, or it was evicted.</summary>
    public required long Misses { get; init; }

    /// <summary>Part of the calls of Get that were hits, 0..1; 0 before the first.</summary>
    public double HitRate => Hits + Misses == 0 ? 0 : (double)Hits / (Hits + Misses);

    /// <summary>Tokens that the warm-up went through; 0 without one.</summary>
    public required int WarmupTokens { get; init; }

    /// <summary>Bytes and pages; null without <see cref="KvMemoryOptions.MonitorMemory"/>.</summary>
    public KvEngineMemory? Memory { get; init; }

    /// <summary>Times of calls by name: "put", "get", "forward"; null without <see cref="KvExecutionOptions.EnableProfiling"/>.</summary>
    public IReadOnlyDictionary<string, KvCallTimes>? Times { get; init; }
}

/// <summary>Bytes and pages of an engine.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="AllocatedBytes">In use, all counted: <see cref="KvCache.AllocatedBytes"/>.</param>
/// <param name="BudgetBytes">The most that may be in use.</param>
/// <param name="FullPrecisionBytes">Bytes of the sessions' tokens as a dense F16 array.</param>
/// <param name="Pages">Pages.</param>
public sealed record KvEngineMemory(long AllocatedBytes, long BudgetBytes, long FullPrecisionBytes, KvPageCounts Pages);

/// <summary>Times of one kind of call, from entry to return, device work included.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Count">Calls so far.</param>
/// <param name="P50">Median of the last 1,024.</param>
/// <param name="P95">95 in 100 of the last 1,024 took no longer.</param>
/// <param name="P99">99 in 100 of the last 1,024 took no longer.</param>
public readonly record struct KvCallTimes(long Count, TimeSpan P50, TimeSpan P95, TimeSpan P99);
