namespace KvCacheGpu.Configuration;

/// <summary>What a running cache takes of a configuration.</summary>
public static class KvLiveSettings
{
    /// <summary>Sets the share of the budget from which on room is made: gc_threshold, or all of it without enable_gc.</summary>
    /// <param name="cache">The cache, used or not.</param>
    /// <param name="config">A checked configuration.</param>
    public static void Apply(KvCache cache, KvCacheConfig config)
    {
        ArgumentNullException.ThrowIfNull(cache);
        ArgumentNullException.ThrowIfNull(config);
        cache.Watermark = config.Memory.EnableGc ? config.Memory.GcThreshold : 1;
    }
}
