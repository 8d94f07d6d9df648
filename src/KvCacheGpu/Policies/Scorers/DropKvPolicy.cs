namespace KvCacheGpu;

/// <summary>Keeps the pages whose loss would change the attention output most: (p / (1 - p))^2 (|v|^2 + |o|^2), where p is the page's mean share of attention.</summary>
/// <remarks>
/// Source: DropKV's exact error of dropping one token, (p / (1 - p))^2 |v - o|^2, summed over queries; here by pages, with |v - o|^2 taken
/// as |v|^2 + |o|^2. Its scores are comparable across heads, so that <see cref="AdaKvPolicy"/> suits it.
/// Thread safety: one policy serves all sequences of a cache, and is called by several threads at once.
/// </remarks>
public sealed class DropKvPolicy : RankedPolicy
{
    /// <inheritdoc/>
    public override KvStatistics Needs => KvStatistics.Mass | KvStatistics.Queries;

    /// <summary>0.98, like that of <see cref="H2oPolicy"/>.</summary>
    public override float Decay => 0.98f;

    /// <inheritdoc/>
    public override void Score(in KvPages pages, Span<float> scores)
    {
        KvPages.Require(pages.Mass, pages.Count, "dropkv");
        KvPages.Require(pages.ValueSquare, pages.Count, "dropkv");
        KvPages.Require(pages.OutputSquare, pages.Rows, "dropkv");
        double whole = OutputError.WholeMass(pages, Decay);
        for (int row = 0; row < pages.Rows; row++)
        {
            for (int page = pages.RowStarts[row]; page < pages.RowStarts[row + 1]; page++)
            {
                scores[page] = (float)OutputError.OfDrop(pages, row, page, pages.Mass[page] / whole);
            }
        }
    }
}
