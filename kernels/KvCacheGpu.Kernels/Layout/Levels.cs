namespace KvCacheGpu.Kernels;

/// <summary>
/// Lloyd-Max levels of N(0, 1) in 2, 3 and 4 bits (Lloyd 1957, Max 1960), ascending: code i is level i. They are part of the
/// stored format; <see cref="Version"/> names this table. Mean squared errors: .1175, .0345, .0095.
/// </summary>
/// <remarks>
/// How a T page is made of rotated keys k'[t], in binary32 throughout. Every tier keeps one order, so that codes are the same bits everywhere:
/// SquareSum is the sum of squares over elements, padded with zeros to a power of two, the upper half added to the lower until one number is
/// left; sums over tokens run from the first to the last.
/// <code>
///   r[t]  = f16(sqrt(SquareSum(k'[t]) / width))       u[t] = k'[t] * (1 / r[t]), 0 where r[t] is 0
///   mu    = f16(sum of u[t] / tokens)                 e[t] = u[t] - mu
///   code  = levels below e[t] * (sqrt(width) / |e|)   |e| = sqrt(SquareSum(e[t])); all codes of a zero e are those of 0
///   g[t]  = f16(|e| / sqrt(SquareSum(levels of the codes))), 0 where |e| is 0
///   read:  q' . k'[t] = r[t] (q' . mu + g[t] (q' . levels of the codes))
/// </code>
/// V3 and V2: r as above of v'; code of v' * (1 / r); read r * level.
/// V4, for each group: m = f16 of the minimum rounded down, s = f16 of max(2^-24, (maximum - m) / 15) rounded up,
/// code = round(min(max((v' - m) * (1 / s), 0), 15)); read m + s * code.
/// </remarks>
public static class Levels
{
    /// <summary>Version of the tables; part of the identity of stored pages.</summary>
    public const int Version = 1;

    private static readonly float[] Two = [-1.51041761f, -0.452780035f, 0.452780035f, 1.51041761f];

    private static readonly float[] Three =
        [-2.1519457f, -1.34390928f, -0.756005281f, -0.245094179f, 0.245094179f, 0.756005281f, 1.34390928f, 2.1519457f];

    private static readonly float[] Four =
    [
        -2.73258957f, -2.06901723f, -1.61804639f, -1.2562312f, -0.942340456f, -0.656759119f, -0.388048299f, -0.12839503f,
        0.12839503f, 0.388048299f, 0.656759119f, 0.942340456f, 1.2562312f, 1.61804639f, 2.06901723f, 2.73258957f,
    ];

    /// <summary>The levels of a format in <paramref name="bits"/> bits, 2..4.</summary>
    public static ReadOnlySpan<float> Of(int bits) => bits switch
    {
        2 => Two,
        3 => Three,
        4 => Four,
        _ => throw new ArgumentOutOfRangeException(nameof(bits), bits, "expected 2, 3 or 4"),
    };

    /// <summary>Where codes change: boundary i lies halfway between levels i and i + 1; a number's code counts the boundaries below it.</summary>
    public static float Boundary(int bits, int i) => (Of(bits)[i] + Of(bits)[i + 1]) * 0.5f;
}
