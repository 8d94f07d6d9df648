using KvCacheGpu.Llama;

namespace KvCacheGpu.Cli;

/// <summary>Whether a budget that was asked for holds what was asked for, and which one would.</summary>
internal sealed class CacheBudget(LlamaModel model, KvCacheOptions config)
{
    /// <summary>Before the first token is written: what can be known not to fit must not fail halfway.</summary>
    /// <param name="cache">The cache, still empty.</param>
    /// <param name="pageBytes">What its pages take at least in the end.</param>
    /// <exception cref="BudgetException">They will not fit.</exception>
    public void RefuseWhatCannotFit(KvCache cache, long pageBytes)
    {
        if (config.Policy is null && cache.AllocatedBytes + pageBytes > cache.BudgetBytes && Sufficient() is { } bytes)
        {
            throw new BudgetException(Enough(bytes), $"{cache.BudgetBytes} bytes");
        }
    }

    /// <summary>What to say of a cache that was full; null where no budget was given, so that none can be too small.</summary>
    public BudgetException? Explain(KvCache cache, KvOutOfMemoryException full) =>
        Sufficient() is { } bytes ? new BudgetException(Enough(bytes), $"{cache.BudgetBytes} bytes ({full.Message})") : null;

    private string Enough(long bytes) => $"at least {bytes} bytes for {config.MaxTokens} tokens (or smaller formats, or --policy window)";

    // What the cache takes that is not held to a budget.
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
