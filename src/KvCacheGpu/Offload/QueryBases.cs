using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Some queries of one row, in each basis in which keys lie, and how well pages agree with them.
/// </summary>
/// <remarks>
/// A page's score is the largest over the queries of q . mean + 2 sqrt(sum of q^2 variance): a key as far from the mean as few are, in the direction of the query. Soft caps and the
/// scale of logits change no order. Source of the mean as a summary: Quest (Tang et al. 2024) with its minimum and maximum replaced by mean and deviation.
/// </remarks>
internal sealed class QueryBases(KvGeometry geometry, ulong rotationSeed)
{
    private const int MostQueries = DigestScorer.MostQueries;

    private const int Plain = 0;
    private const int Rotated = 1;
    private const int Scaled = 2;

    private readonly float[] _signs = Rotation.Signs(geometry.KeyWidth, rotationSeed);
    private readonly float[] _queries = new float[3 * MostQueries * geometry.KeyWidth];
    private readonly bool[] _has = new bool[3];
    private int _count;

    /// <summary>Takes the queries of a row.</summary>
    /// <param name="queries"><c>[tokens][query heads][key width]</c>, in host memory.</param>
    /// <param name="firstToken">The sequence's first token in the tensor.</param>
    /// <param name="tokens">Its tokens.</param>
    /// <param name="head">KV head.</param>
    public void Take(KvTensor queries, int firstToken, int tokens, int head)
    {
        int group = geometry.GroupSize;
        int all = tokens * group;
        _count = Math.Min(all, MostQueries);
        Array.Clear(_has);
        _has[Plain] = true;
        for (int i = 0; i < _count; i++)
        {
            (int token, int member) = Math.DivRem(DigestScorer.QueryAt(i, _count, all), group);
            Span<float> own = Of(Plain, i);
            queries.Row(firstToken + token, (head * group) + member, geometry.QueryHeads, own).CopyTo(own);
        }
    }

    /// <summary>How well a page agrees with the queries that were taken.</summary>
    /// <param name="page">The page.</param>
    /// <param name="layout">Its layout.</param>
    /// <param name="exponents">Exponents of the row's key scales; empty if its T pages are not scaled.</param>
    public float Score(HostPage page, PageLayout layout, ReadOnlySpan<byte> exponents)
    {
        int basis = !layout.KeyFormat.IsRotated() ? Plain : layout.KeyFormat.IsCentered() && !exponents.IsEmpty ? Scaled : Rotated;
        Turn(basis, exponents);
        ReadOnlySpan<float> mean = page.Mean[..geometry.KeyWidth];
        ReadOnlySpan<float> variance = page.Variance[..geometry.KeyWidth];
        float best = float.NegativeInfinity;
        for (int i = 0; i < _count; i++)
        {
            ReadOnlySpan<float> query = Of(basis, i);
            best = Math.Max(best, Vectors.Dot(query, mean) + (2 * MathF.Sqrt(Vectors.Square(query, variance))));
        }

        return best;
    }

    private void Turn(int basis, ReadOnlySpan<byte> exponents)
    {
        for (int i = 0; i < _count && !_has[basis]; i++)
        {
            Span<float> own = Of(basis, i);
            Of(Plain, i).CopyTo(own);
            for (int e = 0; e < own.Length && basis == Scaled; e++)
            {
                // Keys lie multiplied by these: products stay the same.
                own[e] = MathF.ScaleB(own[e], -exponents[e]);
            }

            Rotation.Apply(own, _signs);
        }

        _has[basis] = true;
    }

    private Span<float> Of(int basis, int query) => _queries.AsSpan(((basis * MostQueries) + query) * geometry.KeyWidth, geometry.KeyWidth);
}
