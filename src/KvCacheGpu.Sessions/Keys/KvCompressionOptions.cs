namespace KvCacheGpu;

/// <summary>How <c>UltraAdaptiveKvCacheEngine</c> makes keys and values smaller. All of it but 16 bits is lossy.</summary>
public sealed record KvCompressionOptions
{
    /// <summary>Whether pages are to take <see cref="CompressionRatio"/> of their bytes (<c>use_compression</c>). The default value is true.</summary>
    public bool UseCompression { get; set; } = true;

    /// <summary>Part of the full-precision bytes that is kept, above 0 and at most 1: lower is smaller (<c>compression_ratio</c>). The default value is 0.3.</summary>
    public double CompressionRatio { get; set; } = 0.3;

    /// <summary>
    /// How the ratio is reached: "auto", or a page format's name (<c>compression_method</c>); "svd", "lowrank" and "sparse" of older versions are
    /// taken as "auto", with a warning. The default value is "auto".
    /// </summary>
    public string CompressionMethod { get; set; } = "auto";

    /// <summary>Whether sealed pages have <see cref="QuantizationBits"/> (<c>use_quantization</c>). The default value is false.</summary>
    public bool UseQuantization { get; set; }

    /// <summary>Bits of an element: 2, 3, 4, 8, or 16, which is full precision (<c>quantization_bits</c>). The default value is 8.</summary>
    public int QuantizationBits { get; set; } = 8;

    /// <summary>
    /// Whether the adaptive strategy may shrink compressed pages further where the bytes run out (<c>adaptive_compression</c>). The
    /// default value is true.
    /// </summary>
    public bool AdaptiveCompression { get; set; } = true;

    /// <summary>Whether the adaptive strategy may shrink quantized pages further (<c>adaptive_quantization</c>). The default value is true.</summary>
    public bool AdaptiveQuantization { get; set; } = true;

    /// <summary>What full precision is (<c>dtype</c>). The default value is <see cref="KvDtype.Float16"/>.</summary>
    public KvDtype Dtype { get; set; } = KvDtype.Float16;
}

/// <summary>Element types of full precision.</summary>
public enum KvDtype
{
    /// <summary>IEEE binary16.</summary>
    Float16,

    /// <summary>bfloat16.</summary>
    BFloat16,

    /// <summary>IEEE binary32.</summary>
    Float32,
}
