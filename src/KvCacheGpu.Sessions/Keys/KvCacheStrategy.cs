namespace KvCacheGpu;

/// <summary>What <c>UltraAdaptiveKvCacheEngine</c> does where room runs out.</summary>
public enum KvCacheStrategy
{
    /// <summary>Pages shrink or go by what that is expected to cost (<see cref="AdaptivePolicy"/>).</summary>
    Adaptive,

    /// <summary>The pages attended to longest ago go (<see cref="LruPolicy"/>).</summary>
    Lru,

    /// <summary>The pages attended to least often go (<see cref="LfuPolicy"/>).</summary>
    Lfu,

    /// <summary>Nothing goes; what does not fit is refused.</summary>
    Paged,

    /// <summary>Nothing goes; every page is sealed in a format of <see cref="KvCompressionOptions.CompressionRatio"/>.</summary>
    Compressed,

    /// <summary>Nothing goes; every page is sealed in <see cref="KvCompressionOptions.QuantizationBits"/>.</summary>
    Quantized,
}

/// <summary>What <c>UltraAdaptiveKvCacheEngine</c> is used for: sets tokens of a step, and what a policy always keeps.</summary>
public enum KvCacheMode
{
    /// <summary>Steps of up to 512 tokens; 64 newest tokens stay.</summary>
    Inference,

    /// <summary>Refused: a KV cache keeps no gradients.</summary>
    Training,

    /// <summary>Steps of up to 2,048 tokens; 64 newest tokens stay.</summary>
    Bulk,

    /// <summary>Steps of up to 128 tokens; only 4 sinks and a window of a quarter of the tokens stay, whether bytes are asked for or not.</summary>
    Streaming,

    /// <summary>Steps of up to 128 tokens; 256 newest tokens stay.</summary>
    Interactive,
}
