using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>How well a page agrees with queries, in float64 from the bytes of its digest.</summary>
public static class DigestOracle
{
    /// <summary>The largest over the queries of q . mean + 2 sqrt(sum of q^2 variance), in the basis in which the page's keys lie.</summary>
    /// <param name="page">The page, all of its tokens decoded.</param>
    /// <param name="queries">The queries, each of the key width.</param>
    /// <param name="seed">The rotation's seed.</param>
    /// <param name="exponents">Key scales of the page's row.</param>
    public static double Score(DecodedPage page, IEnumerable<float[]> queries, ulong seed, ReadOnlySpan<byte> exponents)
    {
        PartCodes codes = page.KeyCodes;
        double unit = codes.Format.IsCentered() ? codes.Scales.Average(token => (double)token[0]) : 1;
        double best = double.NegativeInfinity;
        foreach (float[] query in queries)
        {
            float[] q = [.. query];
            for (int e = 0; e < q.Length && codes.Format.IsCentered(); e++)
            {
                q[e] = MathF.ScaleB(q[e], -exponents[e]);
            }

            if (codes.Format.IsRotated())
            {
                Rotation.Apply(q, Rotation.Signs(q.Length, seed));
            }

            (double agreement, double spread) = (0, 0);
            for (int e = 0; e < q.Length; e++)
            {
                agreement += q[e] * unit * (double)codes.Mean[e];
                spread += Math.Pow(q[e] * unit * (double)codes.Deviation[e], 2);
            }

            best = Math.Max(best, agreement + (2 * Math.Sqrt(spread)));
        }

        return best;
    }
}
