using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>A page format of values whose errors are measured through the widest SIMD tier.</summary>
/// <param name="Format">The format.</param>
/// <param name="Bits">Bits of an element at a width of 128, scales counted.</param>
public sealed record ValueEncoding(PageFormat Format, double Bits)
{
    /// <summary>All encodings, in the order of the table.</summary>
    public static IReadOnlyList<ValueEncoding> All { get; } =
    [
        new(PageFormat.I8, 8.125), new(PageFormat.Q8, 8.5), new(PageFormat.FP8, 8), new(PageFormat.Q4, 4.5), new(PageFormat.V4, 4.5),
        new(PageFormat.V3, 3.125), new(PageFormat.V2, 2.125),
    ];

    /// <summary>Relative error of the output under the exact softmax of generator G.</summary>
    public double OutputError() => ErrorCase.Of(KeyKind.Plain).OutputError(Apply(ErrorCase.Of(KeyKind.Plain).Values));

    private double[][] Apply(float[][] values) =>
        PageCodec.ThroughTier((shape, bytes) => new SimdTier(shape, bytes), PageFormat.I8, Format, values, values).Values;
}
