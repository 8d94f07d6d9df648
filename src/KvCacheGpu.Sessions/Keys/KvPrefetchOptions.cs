namespace KvCacheGpu;

/// <summary>Fetching of pages from slower memory before they are asked for.</summary>
public sealed record KvPrefetchOptions
{
    /// <summary>Whether pages are fetched ahead (<c>enable_prefetch</c>). The default value is true.</summary>
    public bool EnablePrefetch { get; set; } = true;

    /// <summary>Pages fetched ahead, 1..64 (<c>prefetch_size</c>). The default value is 8.</summary>
    public int PrefetchSize { get; set; } = 8;
}
