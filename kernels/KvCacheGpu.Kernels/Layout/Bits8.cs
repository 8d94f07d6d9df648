namespace KvCacheGpu.Kernels;

/// <summary>
/// FP8 E4M3FN by integer arithmetic on bit patterns, so that every tier, device code included, stores the same bits: 1 sign, 4 exponent
/// bits of bias 7, 3 fraction bits, no infinities, largest number 448. A pattern lies in the low 8 bits of its word, the others zero.
/// </summary>
/// <remarks>Source: Micikevicius et al. 2022, "FP8 formats for deep learning".</remarks>
public static class Bits8
{
    private const uint Largest = 0x7E;

    /// <summary>binary32 bits to FP8 bits, rounded to nearest even; beyond 448, NaN included, 448 with the sign: NaN is never written.</summary>
    public static uint Fp8FromSingleBits(uint f)
    {
        uint magnitude = f & 0x7FFFFFFF;
        uint normal = (magnitude - 0x3C000000 + 0x7FFFF + ((magnitude >> 20) & 1)) >> 20;

        // Bits to drop so that the mantissa counts units of 2^-9; the clamps keep shifts defined where the result is not used.
        int shift = 141 - (int)(magnitude >> 23);
        shift = shift > 31 ? 31 : shift;
        shift = shift < 1 ? 1 : shift;
        uint mantissa = (magnitude & 0x7FFFFF) | 0x800000;
        uint subnormal = (mantissa + (1u << (shift - 1)) - 1 + ((mantissa >> shift) & 1)) >> shift;
        uint rounded = magnitude < 0x3C800000 ? subnormal : normal;
        rounded = magnitude > 0x43E00000 ? Largest : rounded;
        return rounded | ((f >> 24) & 0x80);
    }

    /// <summary>FP8 bits to binary32 bits, exactly.</summary>
    public static uint SingleBitsFromFp8(uint b)
    {
        uint magnitude = b & 0x7F;
        uint wide = (magnitude << 20) + 0x3C000000;

        // Subnormals: 1, 2..3 and 4..7 units of 2^-9.
        uint one = magnitude == 0 ? 0u : 0x3B000000;
        uint two = 0x3B800000 | ((magnitude & 1) << 22);
        uint four = 0x3C000000 | ((magnitude & 3) << 21);
        uint subnormal = magnitude < 2 ? one : two;
        subnormal = magnitude < 4 ? subnormal : four;
        wide = magnitude < 8 ? subnormal : wide;
        wide = magnitude > Largest ? 0x7FC00000 : wide;
        return wide | ((b & 0x80) << 24);
    }
}
