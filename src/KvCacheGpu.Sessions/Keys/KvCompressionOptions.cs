namespace KvCacheGpu;

/// <summary>How keys and values become smaller. Everything below 16 bits loses precision, so that a model's output changes.</summary>
/// <remarks>Thread safety: it is set up by one thread; whoever takes it, takes a copy.</remarks>
public sealed record KvCompressionOptions
{
    /// <summary>True if sealed pages take <see cref="CompressionRatio"/> of their bytes (<c>use_compression</c>). The default value is true, as in the migration guide.</summary>
    public bool UseCompression { get; set; } = true;

    /// <summary>Part of the bytes of full precision that is kept, above 0 and at most 1: lower is smaller (<c>compression_ratio</c>). The default value is 0.3.</summary>
    public double CompressionRatio { get; set; } = 0.3;

    /// <summary>
    /// How the ratio is reached (<c>compression_method</c>): "auto" takes the most precise formats that reach it, and the name of a page format takes
    /// that one; "svd", "lowrank" and "sparse" of older versions are taken as "auto", with a warning. The default value is "auto".
    /// </summary>
    public string CompressionMethod { get; set; } = "auto";

    /// <summary>True if sealed pages have <see cref="QuantizationBits"/>, in place of compression (<c>use_quantization</c>). The default value is false.</summary>
    public bool UseQuantization { get; set; }

    /// <summary>Bits of an element: 2, 3, 4, 8, or 16, which is full precision (<c>quantization_bits</c>). The default value is 8.</summary>
    public int QuantizationBits { get; set; } = 8;

    /// <summary>
    /// True if the adaptive strategy may shrink compressed pages further when bytes run out (<c>adaptive_compression</c>). The
    /// default value is true.
    /// </summary>
    public bool AdaptiveCompression { get; set; } = true;

    /// <summary>True if the adaptive strategy may shrink quantized pages further when bytes run out (<c>adaptive_quantization</c>). The default value is true.</summary>
    public bool AdaptiveQuantization { get; set; } = true;

    /// <summary>The element type of full precision (<c>dtype</c>). The default value is <see cref="KvDtype.Float16"/>.</summary>
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
