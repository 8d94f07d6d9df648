namespace KvCacheGpu;

/// <summary>
/// Keeps the first tokens (attention sinks) and a sliding window of the newest, and drops pages that lie wholly between them, even if no
/// bytes are asked for.
/// </summary>
/// <remarks>
/// Source: StreamingLLM (Xiao et al. 2024), by pages and with the original positions. Pages are dropped one page late, so that after a
/// rollback of up to a page the tokens that the window covers again are still there. If the window itself exceeds the budget, the oldest unfixed pages go.
/// Thread safety: one policy serves all sequences of a cache, and is called by several threads at once.
/// </remarks>
public sealed class WindowPolicy : RankedPolicy
{
    /// <summary>Sets the number of first and of newest tokens that stay.</summary>
    /// <param name="sinkTokens">Number of first tokens that always stay, 0 or more.</param>
    /// <param name="windowTokens">Number of newest tokens that always stay, at least 1.</param>
    public WindowPolicy(int sinkTokens, int windowTokens)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(sinkTokens);
        ArgumentOutOfRangeException.ThrowIfLessThan(windowTokens, 1);
        (SinkTokens, WindowTokens) = (sinkTokens, windowTokens);
    }

    /// <summary>Keeps 4 sinks, as StreamingLLM does, and a window.</summary>
    /// <param name="windowTokens">Number of newest tokens that always stay, at least 1.</param>
    public WindowPolicy(int windowTokens)
        : this(4, windowTokens)
    {
    }

    /// <summary>True: the window slides with every step.</summary>
    public override bool ActsUnasked => true;

    /// <inheritdoc/>
    public override void Score(in KvPages pages, Span<float> scores)
    {
        for (int page = 0; page < pages.Count; page++)
        {
            scores[page] = pages.PageIndex[page];
        }
    }

    /// <inheritdoc/>
    public override void Plan(in KvPages pages, long bytesToFree, Span<KvTransition> plan, object? state)
    {
        int p = pages.Geometry.PageTokens;
        for (int page = 0; page < pages.Count; page++)
        {
            long start = pages.FirstPosition(page);
            bool goes = start >= SinkTokens && start + p <= (long)pages.Length - WindowTokens - p && !pages.IsFixed(page);
            plan[page] = goes ? KvTransition.Drop : KvTransition.Keep;
            bytesToFree -= goes && !pages.Bytes.IsEmpty ? pages.Bytes[page] : 0;
        }

        PlanRest(pages, bytesToFree, plan);
    }

    /// <inheritdoc/>
    public override int MostKeptPages(int pageTokens)
    {
        // Beside the sinks, pages that end after Length - window - P stay: window + P tokens, which may touch one page more than they fill.
        long sinks = ((long)SinkTokens + pageTokens - 1) / pageTokens;
        long window = (((long)WindowTokens + pageTokens - 1) / pageTokens) + 2;
        return (int)Math.Min(int.MaxValue, sinks + window);
    }
}
