namespace KvCacheGpu;

/// <summary>
/// Keeps the first tokens (attention sinks) and a sliding window of the newest, and drops pages that lie wholly between them.
/// </summary>
/// <remarks>
/// Source: StreamingLLM (Xiao et al. 2024), by pages and with the original positions. One page of lag keeps a rollback of up to a
/// page exact: what the window then covers again is still there.
/// </remarks>
public sealed class WindowPolicy : KvPolicy
{
    /// <summary>Sets what stays.</summary>
    /// <param name="sinkTokens">First tokens that always stay, 0 or more.</param>
    /// <param name="windowTokens">Newest tokens that always stay, at least 1.</param>
    public WindowPolicy(int sinkTokens, int windowTokens)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(sinkTokens);
        ArgumentOutOfRangeException.ThrowIfLessThan(windowTokens, 1);
        (SinkTokens, WindowTokens) = (sinkTokens, windowTokens);
    }

    /// <summary>Keeps 4 sinks, as StreamingLLM does, and a window.</summary>
    /// <param name="windowTokens">Newest tokens that always stay, at least 1.</param>
    public WindowPolicy(int windowTokens)
        : this(4, windowTokens)
    {
    }

    /// <summary>First tokens that always stay.</summary>
    public int SinkTokens { get; }

    /// <summary>Newest tokens that always stay.</summary>
    public int WindowTokens { get; }

    /// <inheritdoc/>
    public override void Plan(in KvRow row, Span<bool> drops)
    {
        long p = row.PageTokens;
        for (int i = 0; i < row.Pages.Length; i++)
        {
            long start = row.Pages[i] * p;
            drops[i] = start >= SinkTokens && start + p <= (long)row.Length - WindowTokens - p;
        }
    }

    /// <inheritdoc/>
    public override int MostKeptPages(int pageTokens)
    {
        // Kept beside the sinks: ends above Length - window - P, so that window + P tokens may touch one page more than they fill.
        long sinks = ((long)SinkTokens + pageTokens - 1) / pageTokens;
        long window = (((long)WindowTokens + pageTokens - 1) / pageTokens) + 2;
        return (int)Math.Min(int.MaxValue, sinks + window);
    }
}
