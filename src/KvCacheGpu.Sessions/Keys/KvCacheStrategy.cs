namespace KvCacheGpu;

/// <summary>What is done when room runs out.</summary>
public enum KvCacheStrategy
{
    /// <summary>Pages shrink or are evicted by what that is expected to cost (<see cref="AdaptivePolicy"/>).</summary>
    Adaptive,

    /// <summary>The pages that were attended to longest ago are evicted (<see cref="LruPolicy"/>).</summary>
    Lru,

    /// <summary>The pages that were attended to least often are evicted (<see cref="LfuPolicy"/>).</summary>
    Lfu,

    /// <summary>Nothing is evicted; a step that does not fit is refused.</summary>
    Paged,

    /// <summary>Nothing is evicted; every page is sealed in formats of <see cref="KvCompressionOptions.CompressionRatio"/>.</summary>
    Compressed,

    /// <summary>Nothing is evicted; every page is sealed in <see cref="KvCompressionOptions.QuantizationBits"/>.</summary>
    Quantized,
}

/// <summary>What the cache is used for: it sets the tokens of a step, and the newest tokens that a policy always keeps, at most a quarter of all.</summary>
public enum KvCacheMode
{
    /// <summary>Steps of up to 512 tokens; 64 newest tokens stay.</summary>
    Inference,

    /// <summary>Refused: a KV cache keeps no gradients.</summary>
    Training,

    /// <summary>Steps of up to 2,048 tokens; 64 newest tokens stay.</summary>
    Bulk,

    /// <summary>Steps of up to 128 tokens; only 4 sinks and a window of a quarter of the tokens stay, also when there is room for more.</summary>
    Streaming,

    /// <summary>Steps of up to 128 tokens; 256 newest tokens stay.</summary>
    Interactive,
}
