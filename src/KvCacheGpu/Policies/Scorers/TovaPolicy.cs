namespace KvCacheGpu;

/// <summary>Keeps the pages that the last query attended to most, by the mean over all heads of the layer.</summary>
/// <remarks>
/// Source: TOVA (Oren et al. 2024). Heads that no longer hold a page count with 0.
/// Thread safety: one policy serves all sequences of a cache, and is called by several threads at once.
/// </remarks>
public sealed class TovaPolicy : RankedPolicy
{
    /// <inheritdoc/>
    public override KvStatistics Needs => KvStatistics.Mass;

    /// <inheritdoc/>
    public override void Score(in KvPages pages, Span<float> scores)
    {
        KvPages.Require(pages.LastMass, pages.Count, "tova");
        int heads = pages.Geometry.KvHeads;
        using var sums = new Pooled<float>(LastIndex(pages) + 1);
        for (int first = 0; first < pages.Rows; first += heads)
        {
            int from = pages.RowStarts[first];
            int to = pages.RowStarts[first + heads];
            sums.Span.Clear();
            for (int page = from; page < to; page++)
            {
                sums.Span[pages.PageIndex[page]] += pages.LastMass[page];
            }

            for (int page = from; page < to; page++)
            {
                scores[page] = sums.Span[pages.PageIndex[page]] / heads;
            }
        }
    }

    private static int LastIndex(in KvPages pages)
    {
        int last = 0;
        for (int page = 0; page < pages.Count; page++)
        {
            last = Math.Max(last, pages.PageIndex[page]);
        }

        return last;
    }
}
