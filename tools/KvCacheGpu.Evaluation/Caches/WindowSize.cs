namespace KvCacheGpu.Evaluation;

/// <summary>Finds the largest window with which a sequence grows to its length within a budget.</summary>
internal static class WindowSize
{
    /// <summary>The tokens of the window, in whole pages; one page if no window fits, which the cache then refuses.</summary>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="config">The rest of the configuration.</param>
    public static int Within(KvGeometry geometry, KvCacheOptions config)
    {
        // Sizes are tried and not computed, because only the cache knows the bytes of open pages, steps and tables.
        (int fits, int tooMany) = (1, geometry.PagesFor(config.MaxTokens) + 1);
        while (tooMany - fits > 1)
        {
            int pages = (fits + tooMany) / 2;
            (fits, tooMany) = Holds(geometry, config, pages * geometry.PageTokens) ? (pages, tooMany) : (fits, pages);
        }

        return fits * geometry.PageTokens;
    }

    private static bool Holds(KvGeometry geometry, KvCacheOptions config, int window)
    {
        KvCacheOptions tried = new()
        {
            Device = config.Device,
            MaxTokens = config.MaxTokens,
            MaxSequences = config.MaxSequences,
            MaxBatchTokens = config.MaxBatchTokens,
            KeyFormat = config.KeyFormat,
            ValueFormat = config.ValueFormat,
            MemoryBudgetBytes = config.MemoryBudgetBytes,
            Policy = new WindowPolicy(window),
        };
        try
        {
            using KvCache cache = new(geometry, tried);
            using KvSequence sequence = cache.CreateSequence();
            float[] zeros = new float[tried.MaxBatchTokens * geometry.KvHeads * Math.Max(geometry.KeyWidth, geometry.ValueWidth)];
            int[] tokens = new int[tried.MaxBatchTokens];

            // Steps that begin at the last token of a page touch the most pages.
            int first = Math.Min(Math.Min(geometry.PageTokens - 1, tokens.Length), tried.MaxTokens);
            for (int count = first; count > 0; count = Math.Min(tokens.Length, tried.MaxTokens - sequence.Length))
            {
                Grow(sequence, zeros, tokens.AsSpan(0, count));
            }

            return true;
        }
        catch (KvOutOfMemoryException)
        {
            return false;
        }
        catch (KvConfigurationException)
        {
            return false;
        }
    }

    private static void Grow(KvSequence sequence, float[] zeros, ReadOnlySpan<int> tokens)
    {
        KvGeometry geometry = sequence.Cache.Geometry;
        int heads = tokens.Length * geometry.KvHeads;
        using KvStep step = sequence.Begin(tokens);
        for (int layer = 0; layer < geometry.Layers; layer++)
        {
            step.Append(layer, zeros.AsSpan(0, heads * geometry.KeyWidth), zeros.AsSpan(0, heads * geometry.ValueWidth));
        }

        step.Commit();
    }
}
