namespace KvCacheGpu;

/// <summary>Keeps the pages that were attended to most often: those with most steps of at least a fair share of attention.</summary>
/// <remarks>
/// Source: least frequently used, with "used" as in <see cref="KvPages.Uses"/>.
/// Thread safety: one policy serves all sequences of a cache, and is called by several threads at once.
/// </remarks>
public sealed class LfuPolicy : RankedPolicy
{
    /// <inheritdoc/>
    public override KvStatistics Needs => KvStatistics.Mass;

    /// <inheritdoc/>
    public override void Score(in KvPages pages, Span<float> scores)
    {
        KvPages.Require(pages.Uses, pages.Count, "lfu");
        for (int page = 0; page < pages.Count; page++)
        {
            scores[page] = pages.Uses[page];
        }
    }
}
