namespace KvCacheGpu;

/// <summary>Steps of a sequence that is thrown away: kernels are compiled and pages touched by them.</summary>
internal static class Warmup
{
    /// <summary>Appends and attends to tokens, as many as are asked for and fit.</summary>
    /// <returns>How many there were.</returns>
    public static int Run(KvCache cache, int samples)
    {
        KvCacheOptions options = cache.Options;
        KvGeometry g = cache.Geometry;
        using KvSequence sequence = cache.CreateSequence();
        int most = Math.Min(samples, options.MaxTokens);
        while (sequence.Length < most)
        {
            int tokens = Math.Min(most - sequence.Length, options.MaxBatchTokens);
            if (!sequence.TryBegin(new int[tokens], out KvStep step))
            {
                break;
            }

            using (step)
            {
                for (int layer = 0; layer < g.Layers; layer++)
                {
                    step.Append(layer, new float[tokens * g.KvHeads * g.KeyWidth], new float[tokens * g.KvHeads * g.ValueWidth]);
                    step.Attend(layer, new float[tokens * g.QueryHeads * g.KeyWidth], new float[tokens * g.QueryHeads * g.ValueWidth]);
                }

                step.Commit();
            }
        }

        return sequence.Length;
    }
}
