namespace KvCacheGpu.Tests;

/// <summary>Caches whose policy lets most pages go to host memory, and steps over them.</summary>
internal static class OffloadCaches
{
    /// <summary>Three layers of 32 elements: pages of 8 tokens.</summary>
    public static KvGeometry Flat { get; } = new(layers: 3, queryHeads: 4, kvHeads: 2, keyWidth: 32, pageTokens: 8) { Rope = new KvRope { Theta = 100 } };

    public static KvCacheOptions SmallOptions(string policy, KvFormats formats)
    {
        KvCacheOptions options = Offloading(Flat, policy, formats, 600, stagedPages: 160);
        options.MemoryBudgetBytes = TightCaches.MinimumOf(options, (g, o) => TestCaches.Simd(g, o), Flat) + 60_000;
        return options;
    }

    public static KvCache Small(string policy, KvFormats formats) => TestCaches.Simd(Flat, SmallOptions(policy, formats));

    public static void Feed(KvSequence sequence, KvSequence expected, int first, int tokens)
    {
        for (int done = 0; done < tokens; done += 8)
        {
            int[] ids = [.. Enumerable.Range(first + done, Math.Min(8, tokens - done))];
            Assert.Equal(Step(expected, ids), Step(sequence, ids));
        }
    }

    public static void AreClose(float[] expected, float[] actual)
    {
        double norm = Math.Sqrt(expected.Sum(x => (double)x * x) / expected.Length);
        double error = expected.Zip(actual, (x, y) => Math.Abs((double)x - y)).Max();
        Assert.True(error <= 5e-6 * norm, $"off by {error} of {norm}");
    }

    public static float[] Together(KvSequence one, KvSequence other, int[] own, int[] others)
    {
        KvGeometry g = one.Cache.Geometry;
        int[] ids = [.. own, .. others];
        int width = ids.Length * g.QueryHeads * g.ValueWidth;
        float[] output = new float[g.Layers * width];
        using KvStep step = one.Cache.Begin([one, other], ids, [own.Length, others.Length]);
        for (int layer = 0; layer < g.Layers; layer++)
        {
            step.Append(layer, TokenContent.Keys(g, layer, ids), TokenContent.Values(g, layer, ids));
            step.Attend(layer, TokenContent.Queries(g, layer, ids), output.AsSpan(layer * width, width));
        }

        step.Commit();
        return output;
    }

    // Keys of one direction, and queries along another: one of as many as there are bits in a number of 32 bits.
    public static float[] Directed(KvSequence sequence, int[] ids, int keys, int queries)
    {
        KvGeometry g = sequence.Cache.Geometry;
        int width = ids.Length * g.QueryHeads * g.ValueWidth;
        float[] output = new float[g.Layers * width];
        using KvStep step = sequence.Begin(ids);
        for (int layer = 0; layer < g.Layers; layer++)
        {
            step.Append(layer, Along(keys, ids.Length * g.KvHeads, g.KeyWidth, layer), TokenContent.Values(g, layer, ids));
            step.Attend(layer, Along(queries, ids.Length * g.QueryHeads, g.KeyWidth, layer), output.AsSpan(layer * width, width));
        }

        step.Commit();
        return output;
    }

    private static float[] Along(int direction, int vectors, int width, int layer)
    {
        var random = new Random((direction * 31) + layer);
        float[] one = [.. Enumerable.Range(0, width).Select(_ => random.Next(2) == 0 ? -4f : 4f)];
        return [.. Enumerable.Repeat(one, vectors).SelectMany(x => x)];
    }

    public static KvCacheOptions Plain(KvGeometry geometry, KvFormats formats, int tokens)
    {
        KvCacheOptions options = TestCaches.Config(formats);
        (options.MaxTokens, options.MaxSequences, options.EdgeLayers, options.KeyScales) = (tokens, 2, 0, KvKeyScales.None(geometry));
        options.FullPrecision = formats.Key == PageFormat.F32 ? PageFormat.F32 : PageFormat.F16;
        return options;
    }

    public static KvCacheOptions Offloading(KvGeometry geometry, string policy, KvFormats formats, int tokens, int? stagedPages = null)
    {
        KvCacheOptions options = Plain(geometry, formats, tokens);
        options.Policy = TightCaches.Policy(policy);
        options.Offload = new KvOffload(1L << 30) { StagedPages = stagedPages };
        return options;
    }

    public static float[] Step(KvSequence sequence, int[] ids, int window = 0, Action? betweenLayers = null)
    {
        KvGeometry g = sequence.Cache.Geometry;
        int width = ids.Length * g.QueryHeads * g.ValueWidth;
        float[] output = new float[g.Layers * width];
        using KvStep step = sequence.Begin(ids);
        for (int layer = 0; layer < g.Layers; layer++)
        {
            step.Append(layer, TokenContent.Keys(g, layer, ids), TokenContent.Values(g, layer, ids));
            step.Attend(layer, TokenContent.Queries(g, layer, ids), output.AsSpan(layer * width, width), window);
            betweenLayers?.Invoke();
        }

        step.Commit();
        return output;
    }
}
