namespace KvCacheGpu.Kernels;

/// <summary>
/// The levels of T, V3 and V2: +-(n + 1/2) with whole n of 0..127, which bytes and binary16 hold exactly, in units of 1 / <see cref="Unit"/>.
/// They are part of the stored format; <see cref="Version"/> names these tables.
/// </summary>
/// <remarks>
/// Unit and n of each table are those with the least mean squared error on N(0, 1) (NMSE), found by search around the Lloyd-Max levels
/// (Lloyd 1957, Max 1960), which version 1 stored as they are:
/// <code>
///   bits   unit    n                                NMSE        of Lloyd-Max
///   2      78.45   35 118                           .1174819    .1174818   + .0000 %
///   3      50.9    12 38 68 109                     .0345482    .0345478   + .0013 %
///   4      41.86   5 16 27 39 52 67 86 114          .0095053    .0095010   + .045 %    (Lloyd-Max rounded to n / 46.5: + .43 %)
/// </code>
/// A code is sign and magnitude: its top bit is set for positive levels, the bits below count the magnitudes from the smallest up. Zero
/// takes the smallest negative level, code 0.
/// <para>
/// How a T page is made of rotated keys k'[t], in binary32 throughout. Every tier keeps one order, so that codes are the same bits everywhere:
/// SquareSum is the sum of squares over elements, padded with zeros to a power of two, the upper half added to the lower until one number is
/// left; sums over tokens run from the first to the last.
/// </para>
/// <code>
///   r[t]  = f16(sqrt(SquareSum(k'[t]) / width))       u[t] = k'[t] * (1 / r[t]), 0 where r[t] is 0
///   mu    = f16(sum of u[t] / tokens)                 e[t] = u[t] - mu
///   code  = that of the level nearest to e[t] * (sqrt(width) * unit / |e|)
///           |e| = sqrt(SquareSum(e[t])); all codes of a zero e are those of 0; halfway between two levels the lower one is taken
///   g[t]  = f16(|e| / sqrt(SquareSum(levels of the codes))), 0 where |e| is 0: the unit cancels
///   read:  q' . k'[t] = r[t] (q' . mu + g[t] (q' . levels of the codes))
/// </code>
/// V3 and V2: r as above of v'; code of the level nearest to v' * (unit / r); read (r * (1 / unit)) * level.
/// V4, for each group: m = f16 of the minimum rounded down, s = f16 of max(2^-24, (maximum - m) / 15) rounded up,
/// code = round(min(max((v' - m) * (1 / s), 0), 15)); read m + s * code.
/// </remarks>
public static class Levels
{
    /// <summary>Version of the tables and of the codes' order; part of the identity of stored pages.</summary>
    public const int Version = 2;

    private static readonly float[] Two = Table([35, 118]);

    private static readonly float[] Three = Table([12, 38, 68, 109]);

    private static readonly float[] Four = Table([5, 16, 27, 39, 52, 67, 86, 114]);

    /// <summary>The levels of a format in <paramref name="bits"/> bits, 2..4, by code.</summary>
    public static ReadOnlySpan<float> Of(int bits) => bits switch
    {
        2 => Two,
        3 => Three,
        4 => Four,
        _ => throw Unknown(bits),
    };

    /// <summary>Levels in a standard deviation: what numbers of unit variance are multiplied by before their levels are sought.</summary>
    public static float Unit(int bits) => bits switch
    {
        2 => 78.45f,
        3 => 50.9f,
        4 => 41.86f,
        _ => throw Unknown(bits),
    };

    /// <summary>1 / <see cref="Unit"/>: what V3 and V2 multiply r by, once for each vector or once for all.</summary>
    public static float Step(int bits) => 1f / Unit(bits);

    /// <summary>The code of the <paramref name="i"/>-th level from below.</summary>
    public static int Code(int bits, int i)
    {
        int half = Of(bits).Length / 2;
        return i < half ? half - 1 - i : i;
    }

    /// <summary>Where codes change: boundary i lies halfway between the i-th level from below and the next. A number lies at the level above all boundaries that are less than it.</summary>
    public static float Boundary(int bits, int i) => (Of(bits)[Code(bits, i)] + Of(bits)[Code(bits, i + 1)]) * 0.5f;

    private static float[] Table(ReadOnlySpan<byte> magnitudes)
    {
        float[] levels = new float[2 * magnitudes.Length];
        for (int k = 0; k < magnitudes.Length; k++)
        {
            levels[magnitudes.Length + k] = magnitudes[k] + 0.5f;
            levels[k] = -levels[magnitudes.Length + k];
        }

        return levels;
    }

    private static ArgumentOutOfRangeException Unknown(int bits) => new(nameof(bits), bits, "expected 2, 3 or 4");
}
