namespace KvCacheGpu;

/// <summary>
/// Lets heads share a budget: each row's scores become parts of their sum, every head keeps a floor, and beyond it the pages of the lowest
/// parts are dropped, whichever head they belong to.
/// </summary>
/// <remarks>
/// Source: Ada-KV (Feng et al. 2024), with its safeguard of 20 %. Scores below 0 are first raised so that the row's least is 0.
/// Thread safety: one policy serves all sequences of a cache, and is called by several threads at once.
/// </remarks>
public sealed class AdaKvPolicy : RankedPolicy
{
    private readonly RankedPolicy _inner;
    private readonly float _floor;

    /// <summary>Wraps a scorer, and takes over its sinks, window and segment floor.</summary>
    /// <param name="inner">Scores the pages.</param>
    /// <param name="floor">Part of an even share of the pages that every head keeps, 0..1. The default value is 0.2.</param>
    public AdaKvPolicy(RankedPolicy inner, float floor = 0.2f)
    {
        ArgumentNullException.ThrowIfNull(inner);
        (_inner, _floor) = (inner, Share(floor));
        (SinkTokens, WindowTokens, SegmentFloor) = (inner.SinkTokens, inner.WindowTokens, inner.SegmentFloor);
    }

    /// <summary>True if the layers share one budget too. The default value is false, as in the paper: only the heads of a layer share one.</summary>
    public bool AcrossLayers { get; init; }

    /// <inheritdoc/>
    public override KvStatistics Needs => _inner.Needs;

    /// <inheritdoc/>
    public override float Decay => _inner.Decay;

    private protected override float RowFloor => _floor;

    /// <inheritdoc/>
    public override void Score(in KvPages pages, Span<float> scores)
    {
        _inner.Score(pages, scores);
        for (int row = 0; row < pages.Rows; row++)
        {
            Normalise(scores[pages.RowStarts[row]..pages.RowStarts[row + 1]]);
        }
    }

    private protected override int RowsPerGroup(in KvPages pages) => AcrossLayers ? pages.Rows : pages.Geometry.KvHeads;

    // A score that is not finite stays as it is, so that its page is the first to go, or the last.
    private static void Normalise(Span<float> scores)
    {
        float least = 0;
        foreach (float score in scores)
        {
            least = float.IsFinite(score) ? Math.Min(least, score) : least;
        }

        double sum = 0;
        foreach (float score in scores)
        {
            sum += float.IsFinite(score) ? (double)score - least : 0;
        }

        if (sum > 0)
        {
            for (int i = 0; i < scores.Length; i++)
            {
                scores[i] = float.IsFinite(scores[i]) ? (float)(((double)scores[i] - least) / sum) : scores[i];
            }
        }
        else
        {
            // The row says nothing about its pages: even parts.
            float part = 1f / Math.Max(1, scores.Length);
            for (int i = 0; i < scores.Length; i++)
            {
                scores[i] = float.IsFinite(scores[i]) ? part : scores[i];
            }
        }
    }
}
