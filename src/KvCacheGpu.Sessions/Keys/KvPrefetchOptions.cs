namespace KvCacheGpu;

/// <summary>How blocks are fetched from the tiers below a cache (<see cref="KvCacheOptions.Tiers"/>). Without a tier nothing is.</summary>
/// <remarks>Thread safety: it is set up by one thread; whoever takes it, takes a copy.</remarks>
public sealed record KvPrefetchOptions
{
    /// <summary>True if blocks are fetched several at once, and ahead (<c>enable_prefetch</c>); see <see cref="KvCacheOptions.EnablePrefetch"/>. The default value is true.</summary>
    public bool EnablePrefetch { get; set; } = true;

    /// <summary>Blocks fetched at once, 1..64 (<c>prefetch_size</c>). The default value is 8.</summary>
    public int PrefetchSize { get; set; } = 8;
}
