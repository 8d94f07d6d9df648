using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Elementary functions in plain arithmetic. Device intrinsics are approximations that differ between backends
/// (ex2.approx loses 5e-6 at -80); these hold 2e-7 everywhere.
/// </summary>
internal static class PortableMath
{
    /// <summary>e^x for x &lt;= 0; 0 below -87, where binary32 ends.</summary>
    /// <remarks>Cody and Waite's reduction, x = n ln2 + r, and the Taylor polynomial of degree 7 on |r| &lt;= ln2/2 (its remainder is below 6e-9).</remarks>
    public static float Exp(float x)
    {
        float clamped = x < -87f ? -87f : x;
        float shifted = (clamped * 1.44269504f) + 12582912f;
        float n = shifted - 12582912f;
        float r = clamped - (n * 0.693359375f);
        r -= n * -2.12194440e-4f;
        float p = 1f / 5040f;
        p = (p * r) + (1f / 720f);
        p = (p * r) + (1f / 120f);
        p = (p * r) + (1f / 24f);
        p = (p * r) + (1f / 6f);
        p = (p * r) + 0.5f;
        p = (p * r * r) + r + 1f;
        uint power = (Interop.FloatAsInt(shifted) - 0x4B400000 + 127) << 23;
        return x < -87f ? 0f : p * Interop.IntAsFloat(power);
    }

    /// <summary>1 / x, exactly, where x is a power of two or the negative of one.</summary>
    public static float InverseOfPower(float x)
    {
        uint bits = Interop.FloatAsInt(x);
        return Interop.IntAsFloat((bits & 0x80000000) | (0x7F000000 - (bits & 0x7F800000)));
    }

    /// <summary>tanh x, relative error below 3e-7; an infinity gives 1 of its sign.</summary>
    /// <remarks>From 0.625 on by <see cref="Exp"/>; below, where 1 - e^-2x would lose digits, Cephes' polynomial.</remarks>
    public static float Tanh(float x)
    {
        float magnitude = x < 0f ? -x : x;
        if (magnitude < 0.625f)
        {
            float square = x * x;
            float p = -5.70498872745e-3f;
            p = (p * square) + 2.06390887954e-2f;
            p = (p * square) - 5.37397155531e-2f;
            p = (p * square) + 1.33314422036e-1f;
            p = (p * square) - 3.33332819422e-1f;
            return (p * square * x) + x;
        }

        float power = Exp(-2f * magnitude);
        float tanh = (1f - power) / (1f + power);
        return x < 0f ? -tanh : tanh;
    }

    /// <summary>A logit under a soft cap; of infinities, the cap.</summary>
    public static float Capped(float logit, float cap) => cap * Tanh(logit / cap);

    /// <summary>Bits of 65536: formats that take no more than this are narrow, others hold numbers up to 2^128.</summary>
    public const uint LargestNarrow = 0x47800000;

    /// <summary>The largest number of binary32 less 4e-6 of it.</summary>
    public const float AlmostLargest = 3.40281e38f;

    /// <summary>True if a format holds numbers so large that a sum of a few may leave binary32: F32 and BF16.</summary>
    public static bool IsWide<TCodec>()
        where TCodec : struct, IPortableCodec => default(TCodec).Largest > LargestNarrow && default(TCodec).Largest < 0x7F800000;

    /// <summary>The least n for which a finite x >= 0 is below 2^n; for subnormal numbers, -126.</summary>
    public static int ExponentAbove(float x) => x < float.PositiveInfinity ? (int)(Interop.FloatAsInt(x) >> 23) - 126 : 0;

    /// <summary>2^n for n of -126 .. 127.</summary>
    public static float PowerOf(int n) => Interop.IntAsFloat((uint)(n + 127) << 23);

    /// <summary>x * 2^exponent for exponents of 0 .. 165; beyond binary32 an infinity.</summary>
    public static float Scaled(float x, float exponent)
    {
        int half = (int)exponent / 2;
        return x * PowerOf(half) * PowerOf((int)exponent - half);
    }

    /// <summary>A raw logit as it is stored: beyond binary32 its largest number. Minus infinity says that nothing was seen.</summary>
    public static float LogitOf(float raw, float exponent)
    {
        float logit = Scaled(raw, exponent);
        logit = logit > float.MaxValue ? float.MaxValue : logit;
        return logit < -float.MaxValue && raw > float.NegativeInfinity ? -float.MaxValue : logit;
    }

    /// <summary>ln x for finite normal x &gt; 0.</summary>
    /// <remarks>x = 2^e m with m in [sqrt(1/2), sqrt(2)); ln m = 2 artanh((m - 1) / (m + 1)).</remarks>
    public static float Log(float x)
    {
        uint bits = Interop.FloatAsInt(x);
        int e = (int)((bits - 0x3F3504F3) >> 23);
        e = e > 255 ? e - 512 : e;
        float m = Interop.IntAsFloat(bits - ((uint)e << 23));
        float s = (m - 1f) / (m + 1f);
        float z = s * s;
        float p = 1f / 9f;
        p = (p * z) + (1f / 7f);
        p = (p * z) + (1f / 5f);
        p = (p * z) + (1f / 3f);
        p = (p * z) + 1f;
        return (e * 0.693359375f) + ((e * -2.12194440e-4f) + (2f * s * p));
    }

    /// <summary>Nearest integer, half to even, within -127..127: adding 1.5 * 2^23 leaves the integer in the low bits.</summary>
    public static int RoundToInt7(float x)
    {
        float clamped = x > 127f ? 127f : x;
        clamped = clamped < -127f ? -127f : clamped;
        return (int)(Interop.FloatAsInt(clamped + 12582912f) - 0x4B400000);
    }

    /// <summary>Nearest integer, half to even, within 0..15.</summary>
    public static uint RoundToNibble(float x)
    {
        float clamped = x > 15f ? 15f : x;
        clamped = clamped < 0f ? 0f : clamped;
        return Interop.FloatAsInt(clamped + 12582912f) - 0x4B400000;
    }

    /// <summary>Nearest integer, half away from zero, for |x| up to 127 and rounding errors beyond (C's roundf, as ggml's q8_0).</summary>
    public static int RoundAway(float x)
    {
        float magnitude = x < 0f ? -x : x;
        magnitude = magnitude > 127f ? 127f : magnitude;
        int whole = (int)magnitude;
        whole += magnitude - whole >= 0.5f ? 1 : 0;
        return x < 0f ? -whole : whole;
    }

    /// <summary>ggml's q4_0 code: x + 8.5 toward zero, 15 at most.</summary>
    public static uint GgmlNibble(float x)
    {
        int code = (int)(Apart(x) + 8.5f);
        return (uint)(code > 15 ? 15 : code);
    }

    /// <summary>
    /// A finite product as it is, on its way to an addition: the comparison keeps compilers from fusing the two, which would round once
    /// instead of twice and give other bits than other tiers have.
    /// </summary>
    public static float Apart(float product) => product > float.MaxValue ? float.MaxValue : product;

    /// <summary>binary16 bits, rounded to nearest even.</summary>
    public static uint Half(float x) => Bits16.HalfFromSingleBits(Interop.FloatAsInt(x));

    /// <summary>binary16 bits, rounded to nearest even, 65504 at most.</summary>
    public static uint SaturatedHalf(float x)
    {
        uint bits = Half(x);
        return (bits & 0x7FFF) > 0x7BFF ? (bits & 0x8000) | 0x7BFF : bits;
    }

    /// <summary>binary16 bits to the number, exactly.</summary>
    public static float Single(uint half) => Interop.IntAsFloat(Bits16.SingleBitsFromHalf(half));

    /// <summary>True if a number is an infinity or NaN.</summary>
    public static bool IsNotFinite(float x) => (Interop.FloatAsInt(x) & 0x7FFFFFFF) >= 0x7F800000;
}
