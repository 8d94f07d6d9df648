namespace KvCacheGpu;

/// <summary>
/// Keeps the pages that the last queries of the prompt attended to most, together with their neighbours. Pages that came after the prompt go last,
/// the oldest of them first.
/// </summary>
/// <remarks>
/// Source: SnapKV (Li et al. 2024): mean mass of the last W = 64 queries over the GQA group, average-pooled over k = 5 tokens with zeros
/// beyond the ends. Here by pages, as if a page's tokens shared its mass evenly: a page gets from the page d pages away the part
/// max(0, P - |j - dP|) / (P k), summed over the offsets j = -2..2 of the kernel.
/// Thread safety: one policy serves all sequences of a cache, and is called by several threads at once.
/// </remarks>
public sealed class SnapKvPolicy : RankedPolicy
{
    private const int Kernel = 5;
    private const int Half = Kernel / 2;

    /// <inheritdoc/>
    public override KvStatistics Needs => KvStatistics.WindowMass;

    /// <inheritdoc/>
    public override void Score(in KvPages pages, Span<float> scores)
    {
        KvPages.Require(pages.WindowMass, pages.Count, "snapkv");
        Span<float> weights = stackalloc float[Half + 1];
        for (int d = 0; d <= Half; d++)
        {
            weights[d] = Weight(d, pages.Geometry.PageTokens);
        }

        for (int row = 0; row < pages.Rows; row++)
        {
            int from = pages.RowStarts[row];
            ReadOnlySpan<int> index = pages.PageIndex[from..pages.RowStarts[row + 1]];
            Pool(index, pages.WindowMass.Slice(from, index.Length), weights, scores.Slice(from, index.Length));
        }
    }

    /// <summary>The part of a page's mass that pooling gives the page <paramref name="distance"/> pages away.</summary>
    internal static float Weight(int distance, int pageTokens)
    {
        int overlap = 0;
        for (int j = -Half; j <= Half; j++)
        {
            overlap += Math.Max(0, pageTokens - Math.Abs(j - (distance * pageTokens)));
        }

        return (float)overlap / (pageTokens * Kernel);
    }

    private static void Pool(ReadOnlySpan<int> index, ReadOnlySpan<float> mass, ReadOnlySpan<float> weights, Span<float> scores)
    {
        int seen = mass.LastIndexOfAnyExcept(0f) + 1;
        float most = 0;
        for (int i = 0; i < seen; i++)
        {
            float sum = 0;
            for (int j = Math.Max(0, i - Half); j <= Math.Min(seen - 1, i + Half); j++)
            {
                int distance = Math.Abs(index[j] - index[i]);
                sum += distance <= Half ? weights[distance] * mass[j] : 0;
            }

            scores[i] = sum;
            most = Math.Max(most, sum);
        }

        for (int i = seen; i < index.Length; i++)
        {
            scores[i] = most + 1 + i - seen;
        }
    }
}
