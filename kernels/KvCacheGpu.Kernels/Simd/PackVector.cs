using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>Rounds a vector to a full-precision format and packs it into words: the inner loop of append.</summary>
internal static unsafe class PackVector<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    // 2^-14, the smallest normal half; and 0.5, whose unit in the last place is the smallest half: adding it rounds subnormals.
    private const int SmallestNormalHalf = 0x38800000;
    private const int OneHalf = 0x3F000000;

    // 65536: too large for a half's exponent.
    private const int BeyondHalf = 0x47800000;

    /// <summary>Packs the elements.</summary>
    /// <param name="format">F32, F16 or BF16.</param>
    /// <param name="elements">The vector; readable to a multiple of the lanes.</param>
    /// <param name="width">Elements of the vector.</param>
    /// <param name="words">Out: packed words; room for <paramref name="width"/> words, rounded up to the lanes.</param>
    /// <returns>The largest magnitude, as binary32 bits: NaN is above infinity.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static uint Pack(PageFormat format, float* elements, int width, int* words)
    {
        I largest = S.AllInt(0);
        for (int i = 0; i < width; i += S.Lanes)
        {
            I bits = S.AsInt(S.Load(elements + i));
            I magnitude = S.And(bits, S.AllInt(int.MaxValue));
            largest = S.MaxInt(largest, magnitude);
            if (format == PageFormat.F32)
            {
                S.StoreInt(words + i, bits);
            }
            else
            {
                S.StoreShorts((ushort*)words + i, format == PageFormat.F16 ? Half(bits, magnitude) : BFloat16(bits));
            }
        }

        int* lanes = stackalloc int[S.Lanes];
        S.StoreInt(lanes, largest);
        int all = 0;
        for (int lane = 0; lane < S.Lanes; lane++)
        {
            all = Math.Max(all, lanes[lane]);
        }

        if (format != PageFormat.F32 && all >= BeyondHalf)
        {
            PackSlowly(format, (uint*)elements, width, (ushort*)words);
        }

        return (uint)all;
    }

    // Infinities and NaN, which the vector code takes for numbers.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PackSlowly(PageFormat format, uint* elements, int width, ushort* halves)
    {
        for (int i = 0; i < width; i++)
        {
            halves[i] = (ushort)(format == PageFormat.F16 ? Bits16.HalfFromSingleBits(elements[i]) : Bits16.BFloat16FromSingleBits(elements[i]));
        }
    }

    /// <summary>binary16 bits, nearest even; not for numbers beyond 65536.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I Half(I bits, I magnitude)
    {
        // Round to nearest even: half a step less one, plus the lowest bit kept; the exponent moves from bias 127 to 15.
        I odd = S.And(S.ShiftRight(magnitude, 13), S.AllInt(1));
        I normal = S.ShiftRight(S.AddInt(S.AddInt(magnitude, S.AllInt(unchecked((int)0xC8000FFF))), odd), 13);
        F biased = S.Add(S.AsFloat(magnitude), S.AsFloat(S.AllInt(OneHalf)));
        I subnormal = S.AddInt(S.AsInt(biased), S.AllInt(-OneHalf));
        F rounded = S.IfLess(S.AsFloat(magnitude), S.AsFloat(S.AllInt(SmallestNormalHalf)), S.AsFloat(subnormal), S.AsFloat(normal));
        return S.Or(S.AsInt(rounded), S.And(S.ShiftRight(bits, 16), S.AllInt(0x8000)));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static I BFloat16(I bits)
    {
        I odd = S.And(S.ShiftRight(bits, 16), S.AllInt(1));
        return S.And(S.ShiftRight(S.AddInt(S.AddInt(bits, S.AllInt(0x7FFF)), odd), 16), S.AllInt(0xFFFF));
    }
}
