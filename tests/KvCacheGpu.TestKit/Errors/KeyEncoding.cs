using System.Collections.Concurrent;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>An encoding of keys whose errors are measured: a page format through the widest SIMD tier, or the encoding of another system.</summary>
/// <param name="Name">Its name in the table.</param>
/// <param name="Bits">Bits of an element at a width of 128, scales and means counted.</param>
/// <param name="Apply">The function from keys to the keys that are read back.</param>
public sealed record KeyEncoding(string Name, double Bits, Func<float[][], double[][]> Apply)
{
    private static readonly ConcurrentDictionary<(string, KeyKind), Lazy<double>> Measured = new();

    public static readonly KeyEncoding I8 = OfFormat("I8", 8.125, PageFormat.I8);
    public static readonly KeyEncoding Q8 = OfFormat("q8_0, not rotated", 8.5, PageFormat.Q8);
    public static readonly KeyEncoding Fp8 = OfFormat("FP8, scale 1", 8, PageFormat.FP8);
    public static readonly KeyEncoding Q4 = OfFormat("q4_0, not rotated", 4.5, PageFormat.Q4);
    public static readonly KeyEncoding T4 = OfFormat("T4", 4.5, PageFormat.T4);
    public static readonly KeyEncoding T3 = OfFormat("T3", 3.5, PageFormat.T3);
    public static readonly KeyEncoding T2 = OfFormat("T2", 2.5, PageFormat.T2);
    public static readonly KeyEncoding RotatedQ4 = new("Hadamard + q4_0", 4.5, RotatedQ4Baseline.Apply);
    public static readonly KeyEncoding LloydMax4 = new("Hadamard + Lloyd-Max 4", 4.125, LloydMax4Baseline.Apply);
    public static readonly KeyEncoding Kivi4 = new("KIVI-4, groups of 32", 5, keys => KiviBaseline.Apply(keys, 4));
    public static readonly KeyEncoding Kivi2 = new("KIVI-2, groups of 32", 3, keys => KiviBaseline.Apply(keys, 2));

    /// <summary>All encodings, in the order of the table.</summary>
    public static IReadOnlyList<KeyEncoding> All { get; } = [I8, Q8, Fp8, Q4, RotatedQ4, LloydMax4, Kivi4, T4, T3, T2, Kivi2];

    /// <summary>KL of the softmax on a generator's keys in nats, measured once.</summary>
    public double Divergence(KeyKind kind) =>
        Measured.GetOrAdd((Name, kind), key => new Lazy<double>(() => ErrorCase.Of(kind).Divergence(Apply(ErrorCase.Of(kind).Keys)))).Value;

    // Keys beside I8 values, or the other way round: every format goes with I8.
    private static KeyEncoding OfFormat(string name, double bits, PageFormat format) => new(
        name, bits, keys => PageCodec.ThroughTier((shape, bytes) => new SimdTier(shape, bytes), format, PageFormat.I8, keys, keys).Keys);
}
