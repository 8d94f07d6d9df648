namespace KvCacheGpu.Samples;

/// <summary>The toy model without a device and without a cache: every layer computes softmax over all tokens, in double precision.</summary>
internal static class PlainModel
{
    /// <summary>Elements of a hidden vector: four query heads of 16.</summary>
    public const int Hidden = 64;

    /// <summary>Elements of a token's keys: two KV heads of 16.</summary>
    public const int KeyWidth = 32;

    private const int HeadWidth = 16;

    /// <summary>A number that tells the weights of layers and projections apart.</summary>
    public static int Seed(int layer, int projection) => (layer * 3) + projection + 11;

    /// <summary>A weight between -1/4 and 1/4, by a formula that the device computes alike: integers up to their last step.</summary>
    public static float Weight(int row, int column, int seed)
    {
        uint x = ((uint)row * 73856093u) ^ ((uint)column * 19349663u) ^ ((uint)seed * 83492791u);
        x ^= x >> 13;
        x *= 0x5bd1e995u;
        x ^= x >> 15;
        return ((int)(x & 0xffff) - 32768) / 131072f;
    }

    /// <summary>The hidden vector of the last token.</summary>
    public static float[] Run(int[] ids)
    {
        double[][] hidden = [.. ids.Select(id => Enumerable.Range(0, Hidden).Select(k => (double)Weight(id, k, 7)).ToArray())];
        for (int layer = 0; layer < ToyModel.Geometry.Layers; layer++)
        {
            double[][] queries = Project(hidden, Hidden, Seed(layer, 0)), keys = Project(hidden, KeyWidth, Seed(layer, 1)), values = Project(hidden, KeyWidth, Seed(layer, 2));
            for (int t = 0; t < ids.Length; t++)
            {
                for (int head = 0; head < Hidden / HeadWidth; head++)
                {
                    Attend(queries[t], keys.AsSpan(0, t + 1), values, head, hidden[t].AsSpan(head * HeadWidth, HeadWidth));
                }
            }
        }

        return [.. hidden[^1].Select(x => (float)x)];
    }

    // Adds a head's attention to its part of the hidden vector; two query heads share a KV head.
    private static void Attend(double[] query, ReadOnlySpan<double[]> keys, double[][] values, int head, Span<double> target)
    {
        int at = head / 2 * HeadWidth;
        var weights = new double[keys.Length];
        double sum = 0;
        for (int t = 0; t < keys.Length; t++)
        {
            double logit = 0;
            for (int k = 0; k < HeadWidth; k++)
            {
                logit += query[(head * HeadWidth) + k] * keys[t][at + k];
            }

            sum += weights[t] = Math.Exp(logit / Math.Sqrt(HeadWidth));
        }

        for (int t = 0; t < keys.Length; t++)
        {
            for (int k = 0; k < HeadWidth; k++)
            {
                target[k] += weights[t] / sum * values[t][at + k];
            }
        }
    }

    private static double[][] Project(double[][] hidden, int width, int seed) =>
        [.. hidden.Select(h => Enumerable.Range(0, width).Select(column => Enumerable.Range(0, Hidden).Sum(k => h[k] * Weight(k, column, seed))).ToArray())];
}
