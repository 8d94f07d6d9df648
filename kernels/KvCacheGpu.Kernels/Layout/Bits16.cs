namespace KvCacheGpu.Kernels;

/// <summary>
/// 16-bit floats by integer arithmetic on bit patterns, so that every tier, device code included, stores the same bits.
/// A pattern of 16 bits lies in the low half of its word; the high half of an argument must be zero, and that of a result is.
/// </summary>
public static class Bits16
{
    /// <summary>The bits, as binary32, of 65504, the largest number of binary16.</summary>
    public const uint LargestHalf = 0x477FE000;

    /// <summary>The bits, as binary32, of the largest number of bfloat16.</summary>
    public const uint LargestBFloat16 = 0x7F7F0000;

    /// <summary>
    /// Finite numbers beyond <paramref name="largest"/> become it, with their sign, so that a 16-bit result is finite where the binary32 one is. Infinities and NaN stay.
    /// </summary>
    public static uint Saturate(uint f, uint largest)
    {
        uint magnitude = f & 0x7FFFFFFF;
        return magnitude > largest && magnitude < 0x7F800000 ? largest | (f & 0x80000000) : f;
    }

    /// <summary>binary32 bits to binary16 bits, rounded to nearest even; beyond 65519 infinity, NaN stays NaN (quiet).</summary>
    public static uint HalfFromSingleBits(uint f)
    {
        uint magnitude = f & 0x7FFFFFFF;
        uint normal = (magnitude - 0x38000000 + 0xFFF + ((magnitude >> 13) & 1)) >> 13;
        int shift = SubnormalShift(magnitude);
        uint mantissa = (magnitude & 0x7FFFFF) | 0x800000;
        uint subnormal = (mantissa + (1u << (shift - 1)) - 1 + ((mantissa >> shift) & 1)) >> shift;
        uint rounded = magnitude < 0x38800000 ? subnormal : normal;
        rounded = magnitude >= 0x47800000 ? 0x7C00 : rounded;
        rounded = magnitude > 0x7F800000 ? 0x7E00 | ((magnitude >> 13) & 0x3FF) : rounded;
        return rounded | ((f >> 16) & 0x8000);
    }

    /// <summary>binary16 bits to binary32 bits, exactly.</summary>
    public static uint SingleBitsFromHalf(uint h)
    {
        uint magnitude = h & 0x7FFF;
        uint wide = (magnitude << 13) + (magnitude >= 0x7C00 ? 0x70000000u : 0x38000000u);
        wide = magnitude < 0x400 ? SingleBitsFromHalfSubnormal(magnitude) : wide;
        return wide | ((h & 0x8000) << 16);
    }

    /// <summary>binary32 bits to bfloat16 bits, rounded to nearest even; numbers that round beyond the largest become infinity, NaN stays NaN (quiet).</summary>
    public static uint BFloat16FromSingleBits(uint f)
    {
        uint rounded = (f + 0x7FFF + ((f >> 16) & 1)) >> 16;
        return (f & 0x7FFFFFFF) > 0x7F800000 ? (f >> 16) | 0x40 : rounded;
    }

    /// <summary>bfloat16 bits to binary32 bits, exactly.</summary>
    public static uint SingleBitsFromBFloat16(uint b) => b << 16;

    /// <summary>
    /// The smallest binary16 not below a finite binary32 that is not negative, and never below 2^-24: the scale that a
    /// quantizer divides by. Beyond 65504 infinity.
    /// </summary>
    public static uint HalfRoundUpFromSingleBits(uint f)
    {
        uint normal = (f - 0x38000000 + 0x1FFF) >> 13;
        int shift = SubnormalShift(f);
        uint mantissa = (f & 0x7FFFFF) | 0x800000;
        uint subnormal = (mantissa + (1u << shift) - 1) >> shift;
        uint rounded = f < 0x38800000 ? subnormal : normal;
        return f >= 0x47800000 ? 0x7C00 : rounded;
    }

    /// <summary>
    /// The largest binary16 not above a finite binary32: the minimum that a quantizer subtracts. Below -65504 -infinity, above 65504
    /// 65504. Zeros of either sign give +0, so that the order in which a minimum was found does not show.
    /// </summary>
    public static uint HalfFloorFromSingleBits(uint f)
    {
        uint magnitude = f & 0x7FFFFFFF;
        uint away = f >> 31; // towards -infinity is away from zero for negatives
        uint normal = (magnitude - 0x38000000 + (away * 0x1FFF)) >> 13;
        int shift = SubnormalShift(magnitude);
        uint mantissa = (magnitude & 0x7FFFFF) | 0x800000;
        uint subnormal = (mantissa + (away * ((1u << shift) - 1))) >> shift;
        uint rounded = magnitude < 0x38800000 ? subnormal : normal;
        rounded = magnitude >= 0x47800000 ? 0x7BFF + away : rounded;
        return magnitude == 0 ? 0 : rounded | (away << 15);
    }

    // Bits to drop so that the mantissa counts units of 2^-24; the clamps keep shifts defined where the result is not used.
    private static int SubnormalShift(uint magnitude)
    {
        int shift = 126 - (int)(magnitude >> 23);
        shift = shift > 31 ? 31 : shift;
        return shift < 1 ? 1 : shift;
    }

    // Moves the leading one to bit 10 in four conditional shifts; each shift lowers the exponent.
    private static uint SingleBitsFromHalfSubnormal(uint magnitude)
    {
        int by8 = magnitude < 0x8 ? 8 : 0;
        uint m = magnitude << by8;
        int by4 = m < 0x80 ? 4 : 0;
        m <<= by4;
        int by2 = m < 0x200 ? 2 : 0;
        m <<= by2;
        int by1 = m < 0x400 ? 1 : 0;
        m <<= by1;
        uint exponent = (uint)(113 - by8 - by4 - by2 - by1);
        return magnitude == 0 ? 0 : (exponent << 23) | ((m & 0x3FF) << 13);
    }
}
