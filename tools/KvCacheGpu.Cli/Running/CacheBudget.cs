using KvCacheGpu.Llama;

namespace KvCacheGpu.Cli;

/// <summary>Tells if the budget that was asked for is enough, and which one would be.</summary>
internal sealed class CacheBudget(LlamaModel model, KvCacheOptions config)
{
    /// <summary>Refuses a run before its first token is written, if it is known that its tokens will not fit, so that it does not fail halfway.</summary>
    /// <param name="cache">The cache, still empty.</param>
    /// <param name="pageBytes">The least bytes of its pages at the end.</param>
    /// <exception cref="BudgetException">The tokens will not fit.</exception>
    public void RefuseWhatCannotFit(KvCache cache, long pageBytes)
    {
        if (config.Policy is null && cache.AllocatedBytes + pageBytes > cache.BudgetBytes && Sufficient() is { } bytes)
        {
            throw new BudgetException(Enough(bytes), $"{cache.BudgetBytes} bytes");
        }
    }

    /// <summary>The error for a cache that was full; null if no budget was given, so that none can be too small.</summary>
    public BudgetException? Explain(KvCache cache, KvOutOfMemoryException full) =>
        Sufficient() is { } bytes ? new BudgetException(Enough(bytes), $"{cache.BudgetBytes} bytes ({full.Message})") : null;

    private string Enough(long bytes) => $"at least {bytes} bytes for {config.MaxTokens} tokens (or smaller formats, or --policy window)";

    // The bytes of the same cache without a budget; null if none was given.
    private long? Sufficient()
    {
        if (config.MemoryBudgetBytes is null && config.MemoryBudgetPercent is null)
        {
            return null;
        }

        KvCacheOptions free = config.Copy();
        (free.MemoryBudgetBytes, free.MemoryBudgetPercent) = (null, null);
        return KvCache.BytesFor(model.Geometry(), free).BudgetBytes;
    }
}

/// <summary>E001: the memory budget does not hold the tokens. One line, exit code 1.</summary>
internal sealed class BudgetException(string expected, string actual)
    : Exception($"E001: --memory-budget: expected {expected}, got {actual}");
