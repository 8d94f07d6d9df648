namespace KvCacheGpu;

/// <summary>The attention that a page is going to receive.</summary>
/// <param name="row">The row: layer * KV heads + head.</param>
/// <param name="pageIndex">The page's first position divided by page tokens.</param>
public delegate float KvFutureMass(int row, int pageIndex);

/// <summary>Keeps the pages of most future attention: the bound against which policies are measured. For evaluation alone.</summary>
/// <remarks>Thread safety: as of every policy; what foresees attention is called by several threads at once too.</remarks>
/// <param name="future">Tells the attention to come.</param>
public sealed class OraclePolicy(KvFutureMass future) : RankedPolicy
{
    private readonly KvFutureMass _future = future ?? throw new ArgumentNullException(nameof(future));

    /// <inheritdoc/>
    public override void Score(in KvPages pages, Span<float> scores)
    {
        for (int row = 0; row < pages.Rows; row++)
        {
            for (int page = pages.RowStarts[row]; page < pages.RowStarts[row + 1]; page++)
            {
                scores[page] = _future(row, pages.PageIndex[page]);
            }
        }
    }
}
