namespace KvCacheGpu.Tests;

/// <summary>
/// A made-up model whose keys have two large pairs of elements in each head, and whose queries are as much smaller there: the same attention, whatever the factor.
/// </summary>
internal static class OutlierTokens
{
    public static readonly KvGeometry G = new(layers: 2, queryHeads: 4, kvHeads: 2, keyWidth: 32, pageTokens: 16) { Rope = new KvRope { Theta = 100 } };

    public static KvCacheOptions Options(KvKeyScales? scales = null, PageFormat key = PageFormat.T4, PageFormat value = PageFormat.I8) => new()
    {
        Device = "cpu",
        MaxTokens = 1024,
        MaxSequences = 6,
        MaxBatchTokens = 64,
        KeyFormat = key,
        ValueFormat = value,
        FullPrecision = PageFormat.F32,
        ExactRollbackTokens = 4,
        KeyScales = scales,
    };

    /// <summary>Scales with one large exponent in each row, other than any that is learned here.</summary>
    public static KvKeyScales Some(int element)
    {
        byte[] exponents = new byte[G.Layers * G.KvHeads * G.KeyWidth];
        for (int row = 0; row < G.Layers * G.KvHeads; row++)
        {
            exponents[(row * G.KeyWidth) + element] = 5;
        }

        return new KvKeyScales(G, exponents);
    }

    public static float[] Keys(int layer, ReadOnlySpan<int> ids, float outliers) => Keys(G, layer, ids, outliers);

    public static float[] Values(int layer, ReadOnlySpan<int> ids) => Values(G, layer, ids);

    public static float[] Queries(int layer, ReadOnlySpan<int> ids, float outliers) => Queries(G, layer, ids, outliers);

    /// <summary>The same of another model.</summary>
    public static float[] Keys(KvGeometry geometry, int layer, ReadOnlySpan<int> ids, float outliers) =>
        Fill(layer, ids, geometry.KvHeads, geometry.KeyWidth, 1, outliers);

    public static float[] Values(KvGeometry geometry, int layer, ReadOnlySpan<int> ids) => Fill(layer, ids, geometry.KvHeads, geometry.ValueWidth, 2, 1);

    public static float[] Queries(KvGeometry geometry, int layer, ReadOnlySpan<int> ids, float outliers) =>
        Fill(layer, ids, geometry.QueryHeads, geometry.KeyWidth, 3, 1 / outliers);

    /// <summary>Steps over tokens, and attends with them.</summary>
    /// <returns>The output, <c>[layers][tokens][query heads][value width]</c>.</returns>
    public static float[] Go(this KvSequence sequence, int first, int count, float outliers = 16, bool attends = true)
    {
        int[] ids = [.. Enumerable.Range(first, count)];
        float[] output = new float[G.Layers * count * G.QueryHeads * G.ValueWidth];
        using KvStep step = sequence.Begin(ids);
        for (int layer = 0; layer < G.Layers; layer++)
        {
            step.Append(layer, Keys(layer, ids, outliers), Values(layer, ids));
            if (attends)
            {
                step.Attend(layer, Queries(layer, ids, outliers), output.AsSpan(layer * output.Length / G.Layers, output.Length / G.Layers));
            }
        }

        step.Commit();
        return output;
    }

    /// <summary>|a - b| / |b|.</summary>
    public static double Off(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        (double off, double all) = (0, 0);
        for (int i = 0; i < b.Length; i++)
        {
            (off, all) = (off + Math.Pow(a[i] - b[i], 2), all + Math.Pow(b[i], 2));
        }

        return Math.Sqrt(off / all);
    }

    private static float[] Fill(int layer, ReadOnlySpan<int> ids, int heads, int width, int part, float outliers)
    {
        float[] all = new float[ids.Length * heads * width];
        for (int token = 0; token < ids.Length; token++)
        {
            var random = new Random(HashCode(ids[token], layer, part));
            for (int i = 0; i < heads * width; i++)
            {
                float normal = (float)(Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble()));
                bool isOutlier = part != 2 && i % (width / 2) is 5 or 11;
                all[(token * heads * width) + i] = normal * (isOutlier ? outliers : 1);
            }
        }

        return all;
    }

    // The same on every run, unlike the framework's.
    private static int HashCode(int id, int layer, int part) => unchecked((id * 7919) + (layer * 104_729) + (part * 1_299_709));
}
