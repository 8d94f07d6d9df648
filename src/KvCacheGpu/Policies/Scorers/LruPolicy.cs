namespace KvCacheGpu;

/// <summary>Keeps the pages that were attended to most recently: those whose last step with at least a fair share of attention is newest.</summary>
/// <remarks>
/// Source: least recently used, with "used" as in <see cref="KvPages.LastUsed"/>.
/// Thread safety: one policy serves all sequences of a cache, and is called by several threads at once.
/// </remarks>
public sealed class LruPolicy : RankedPolicy
{
    /// <inheritdoc/>
    public override KvStatistics Needs => KvStatistics.Mass;

    /// <inheritdoc/>
    public override void Score(in KvPages pages, Span<float> scores)
    {
        KvPages.Require(pages.LastUsed, pages.Count, "lru");
        for (int page = 0; page < pages.Count; page++)
        {
            // Counted back from now, because the number of a step outgrows the 24 bits of a float.
            scores[page] = pages.LastUsed[page] - pages.Step;
        }
    }
}
