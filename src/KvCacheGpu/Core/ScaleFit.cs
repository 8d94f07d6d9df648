namespace KvCacheGpu;

/// <summary>
/// Chooses the key scales of a row. A rotated key's rounding error is spread evenly over its elements, in proportion to its length; a query turns it into an
/// error of the logit in proportion to its own. So the scales of a row are those that make (sum of 4^-p Q) (sum of 4^p K) small, where K is the variance of a key's
/// element about its page's mean, which T formats take out, and Q the mean square of the query's. Without rounding p = log2(Q / K) / 4 does
/// (Cauchy-Schwarz); whole exponents are improved from there one by one.
/// </summary>
/// <remarks>Source: SmoothAttention (QServe, Lin et al. 2024) looks at keys alone, and at their largest elements.</remarks>
internal static class ScaleFit
{
    // Rows that gain less keep the scale 1: their keys have no outliers, and measured divergences do not follow so small a gain.
    private const double LeastGain = 1.25;

    // Of the largest: what is smaller has no scale of its own.
    private const double Floor = 1e-9;

    private const int Offsets = 8;
    private const int MostRounds = 8;

    /// <summary>Fits the exponents of a row.</summary>
    /// <param name="keys">K, <c>[key width]</c>, finite.</param>
    /// <param name="queries">Q, <c>[key width]</c>, finite, in any unit.</param>
    /// <param name="turned">Elements that RoPE turns in pairs (i, i + turned / 2): both get one exponent.</param>
    /// <param name="exponents">Receives p, <c>[key width]</c>: 0..15, at least one of them 0.</param>
    /// <returns>False, and all are 0, if the keys or the queries say nothing: all are 0, or some are beyond all bounds.</returns>
    public static bool Fit(ReadOnlySpan<double> keys, ReadOnlySpan<double> queries, int turned, Span<byte> exponents)
    {
        exponents.Clear();
        int half = turned / 2;
        int pairs = keys.Length - half;
        Span<double> k = stackalloc double[pairs], q = stackalloc double[pairs];
        k.Clear();
        q.Clear();
        for (int i = 0; i < keys.Length; i++)
        {
            int pair = PairOf(i, half);
            (k[pair], q[pair]) = (k[pair] + keys[i], q[pair] + queries[i]);
        }

        if (!Raise(k) || !Raise(q))
        {
            return false;
        }

        Span<int> best = stackalloc int[pairs], tried = stackalloc int[pairs];
        best.Clear();
        double least = Cost(k, q, best) / LeastGain;
        for (int offset = 0; offset < Offsets; offset++)
        {
            for (int pair = 0; pair < pairs; pair++)
            {
                tried[pair] = (int)Math.Round((Math.Log2(q[pair] / k[pair]) / 4) + ((double)offset / Offsets));
            }

            Improve(k, q, tried);
            if (Cost(k, q, tried) is var cost && cost < least)
            {
                tried.CopyTo(best);
                least = cost;
            }
        }

        int lowest = int.MaxValue;
        foreach (int exponent in best)
        {
            lowest = Math.Min(lowest, exponent);
        }

        for (int i = 0; i < exponents.Length; i++)
        {
            exponents[i] = (byte)Math.Min(best[PairOf(i, half)] - lowest, KvKeyScales.MostExponent);
        }

        return true;
    }

    // Pairs that RoPE turns, then elements that are a pair by themselves.
    private static int PairOf(int element, int half) => element < half ? element : element - half;

    // Lifts what is next to nothing to a small part of the largest. False if all are nothing.
    private static bool Raise(Span<double> squares)
    {
        double most = 0;
        foreach (double square in squares)
        {
            most = Math.Max(most, square);
        }

        foreach (ref double square in squares)
        {
            square = Math.Max(square, most * Floor);
        }

        return most > 0 && double.IsFinite(most);
    }

    private static double Cost(ReadOnlySpan<double> k, ReadOnlySpan<double> q, ReadOnlySpan<int> exponents)
    {
        (double keys, double queries) = Sums(k, q, exponents);
        return keys * queries;
    }

    private static (double Keys, double Queries) Sums(ReadOnlySpan<double> k, ReadOnlySpan<double> q, ReadOnlySpan<int> exponents)
    {
        (double keys, double queries) = (0, 0);
        for (int pair = 0; pair < k.Length; pair++)
        {
            keys += Math.ScaleB(k[pair], 2 * exponents[pair]);
            queries += Math.ScaleB(q[pair], -2 * exponents[pair]);
        }

        return (keys, queries);
    }

    // One exponent after the other, up or down, as long as that makes the product smaller.
    private static void Improve(ReadOnlySpan<double> k, ReadOnlySpan<double> q, Span<int> exponents)
    {
        (double keys, double queries) = Sums(k, q, exponents);
        bool better = true;
        for (int round = 0; better && round < MostRounds; round++)
        {
            better = false;
            for (int pair = 0; pair < k.Length; pair++)
            {
                for (int change = -1; change <= 1; change += 2)
                {
                    (double own, double asked) = (Math.ScaleB(k[pair], 2 * exponents[pair]), Math.ScaleB(q[pair], -2 * exponents[pair]));
                    double keysThen = keys - own + Math.ScaleB(own, 2 * change);
                    double queriesThen = queries - asked + Math.ScaleB(asked, -2 * change);
                    if (keysThen * queriesThen < keys * queries * (1 - Floor))
                    {
                        exponents[pair] += change;
                        (keys, queries, better) = (keysThen, queriesThen, true);
                    }
                }
            }
        }
    }
}
