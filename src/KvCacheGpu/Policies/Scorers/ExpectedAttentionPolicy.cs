namespace KvCacheGpu;

/// <summary>
/// Keeps the pages that future queries are expected to attend to: softmax over the row of (s mu.k + s^2 sum sigma^2 k^2 / 2), times
/// |v|; k is the page's mean key, |v| the root of its mean |v|^2, s the scale of logits (<see cref="KvGeometry.AttentionScale"/>).
/// </summary>
/// <remarks>
/// Source: Expected Attention (Devoto et al. 2025), with a diagonal covariance. A soft cap (<see cref="KvGeometry.LogitSoftCap"/>) bounds the expected logit as it bounds
/// each logit: an estimate, which never exceeds the cap. Needs <see cref="KvPages.FutureQueryMean"/> and
/// <see cref="KvPages.FutureQueryVariance"/>, which exist only if the geometry has its rope; it refuses to score without them.
/// Thread safety: one policy serves all sequences of a cache, and is called by several threads at once.
/// </remarks>
public sealed class ExpectedAttentionPolicy : RankedPolicy
{
    /// <inheritdoc/>
    public override KvStatistics Needs => KvStatistics.KeyMeans | KvStatistics.Queries | KvStatistics.FutureQueries;

    /// <inheritdoc/>
    public override void Score(in KvPages pages, Span<float> scores)
    {
        int width = pages.Geometry.KeyWidth;
        KvPages.Require(pages.KeyMean, pages.Count * width, "expected-attention");
        KvPages.Require(pages.ValueSquare, pages.Count, "expected-attention");
        KvPages.Require(pages.FutureQueryMean, pages.Rows * width, "expected-attention");
        KvPages.Require(pages.FutureQueryVariance, pages.Rows * width, "expected-attention");
        for (int row = 0; row < pages.Rows; row++)
        {
            ReadOnlySpan<float> mean = pages.FutureQueryMean.Slice(row * width, width);
            ReadOnlySpan<float> variance = pages.FutureQueryVariance.Slice(row * width, width);
            float most = float.NegativeInfinity;
            for (int page = pages.RowStarts[row]; page < pages.RowStarts[row + 1]; page++)
            {
                scores[page] = Logit(pages.Geometry, pages.KeyMean.Slice(page * width, width), mean, variance);
                most = Math.Max(most, scores[page]);
            }

            float total = 0;
            for (int page = pages.RowStarts[row]; page < pages.RowStarts[row + 1]; page++)
            {
                scores[page] = MathF.Exp(scores[page] - most);
                total += scores[page];
            }

            for (int page = pages.RowStarts[row]; page < pages.RowStarts[row + 1]; page++)
            {
                scores[page] *= MathF.Sqrt(pages.ValueSquare[page]) / total;
            }
        }
    }

    /// <summary>The logit of a key that queries of a mean and a variance are expected to give: the logarithm of the mean of exp(s q.k), under the cap.</summary>
    internal static float Logit(KvGeometry geometry, ReadOnlySpan<float> key, ReadOnlySpan<float> mean, ReadOnlySpan<float> variance)
    {
        float scale = geometry.AttentionScale;
        float logit = (Vectors.Dot(key, mean) * scale) + (Vectors.Square(key, variance) * scale * (scale / 2));
        logit = float.IsFinite(logit) ? logit : LogitOfHuge(scale, key, mean, variance);
        return geometry.LogitSoftCap is null ? logit : (float)geometry.Capped(logit);
    }

    // For keys and queries of 1e10 and more: a logit beyond the range of binary32 counts as the largest number in it.
    private static float LogitOfHuge(double scale, ReadOnlySpan<float> key, ReadOnlySpan<float> mean, ReadOnlySpan<float> variance)
    {
        (double dot, double square) = (0, 0);
        for (int i = 0; i < key.Length; i++)
        {
            dot += (double)key[i] * mean[i];
            square += (double)key[i] * key[i] * variance[i];
        }

        return (float)Math.Clamp((dot * scale) + (square * scale * scale / 2), float.MinValue, float.MaxValue);
    }
}
