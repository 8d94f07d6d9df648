namespace KvCacheGpu;

/// <summary>Keeps the pages whose keys are least like the others: -cos(mean key of the page, mean of the unit mean keys of the row).</summary>
/// <remarks>
/// Source: KeyDiff (Park et al. 2025), on mean keys of pages. It reads no attention at all.
/// Thread safety: one policy serves all sequences of a cache, and is called by several threads at once.
/// </remarks>
public sealed class KeyDiffPolicy : RankedPolicy
{
    /// <inheritdoc/>
    public override KvStatistics Needs => KvStatistics.KeyMeans;

    /// <inheritdoc/>
    public override void Score(in KvPages pages, Span<float> scores)
    {
        int width = pages.Geometry.KeyWidth;
        KvPages.Require(pages.KeyMean, pages.Count * width, "keydiff");
        using var anchor = new Pooled<float>(width);
        for (int row = 0; row < pages.Rows; row++)
        {
            anchor.Span.Clear();
            for (int page = pages.RowStarts[row]; page < pages.RowStarts[row + 1]; page++)
            {
                ReadOnlySpan<float> key = pages.KeyMean.Slice(page * width, width);
                scores[page] = Vectors.InverseNorm(key);
                Vectors.Add(anchor.Span, key, scores[page]);
            }

            float inverse = Vectors.InverseNorm(anchor.Span);
            for (int page = pages.RowStarts[row]; page < pages.RowStarts[row + 1]; page++)
            {
                scores[page] *= -inverse * Vectors.Dot(pages.KeyMean.Slice(page * width, width), anchor.Span);
            }
        }
    }
}
