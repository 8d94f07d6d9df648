namespace KvCacheGpu;

/// <summary>Pages that are fetched from slower memory before they are asked for. All of it is inactive in this build.</summary>
/// <remarks>Thread safety: it is set up by one thread; whoever takes it, takes a copy.</remarks>
public sealed record KvPrefetchOptions
{
    /// <summary>True if pages are fetched ahead (<c>enable_prefetch</c>). The default value is true.</summary>
    public bool EnablePrefetch { get; set; } = true;

    /// <summary>Pages fetched ahead, 1..64 (<c>prefetch_size</c>). The default value is 8.</summary>
    public int PrefetchSize { get; set; } = 8;
}
