using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary><see cref="Bits16"/> for the scales of as many tokens as there are lanes. Numbers beyond 65504 become infinity; NaN is not allowed.</summary>
internal static unsafe class HalfLanes<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    // Rounds to infinity, and the rounding below still handles it.
    private const float Beyond = 65520f;

    /// <summary>Nearest even, of numbers that are not negative; -0 counts as 0.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I Nearest(F x)
    {
        F within = S.Min(S.Abs(x), S.All(Beyond));
        return PackVector<S, F, I>.Half(S.AsInt(within), S.AsInt(within));
    }

    /// <summary>Rounded up and never below 2^-24, of numbers that are not negative.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I Up(F x)
    {
        I nearest = Nearest(x);
        F above = S.IfLess(Widen(nearest), S.Min(S.Abs(x), S.All(Beyond)), S.AsFloat(S.AllInt(1)), S.AsFloat(S.AllInt(0)));
        return S.MaxInt(S.AddInt(nearest, S.AsInt(above)), S.AllInt(1));
    }

    /// <summary>Downwards; zeros of either sign give +0, and infinity comes of the negative alone.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I Down(F x)
    {
        F zero = S.All(0f);
        F within = S.Min(S.Abs(x), S.All(Beyond));
        I nearest = Nearest(x);
        F wide = Widen(nearest);
        F none = S.AsFloat(S.AllInt(0));
        I outwards = S.AddInt(nearest, S.AsInt(S.IfLess(wide, within, S.AsFloat(S.AllInt(1)), none)));
        I inwards = S.AddInt(nearest, S.AsInt(S.IfLess(within, wide, S.AsFloat(S.AllInt(-1)), none)));

        // 65520 rounds up to infinity and comes back; beyond it nothing is wider.
        F capped = S.IfLess(S.All(65504f), within, S.AsFloat(S.AllInt(0x7BFF)), S.AsFloat(inwards));
        F negative = S.AsFloat(S.Or(outwards, S.AllInt(0x8000)));
        return S.AsInt(S.IfLess(x, zero, negative, capped));
    }

    /// <summary>The numbers, exactly; infinity as 65536.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Widen(I halves)
    {
        I sign = S.ShiftLeft(S.And(halves, S.AllInt(0x8000)), 16);
        I magnitude = S.ShiftLeft(S.And(halves, S.AllInt(0x7FFF)), 13);
        return S.Multiply(S.AsFloat(S.Or(sign, magnitude)), S.All(SimdF16.Factor));
    }

    /// <summary>Writes the first tokens' halves. Returns true if they are finite.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Write(I halves, ushort* target, int tokens)
    {
        if (S.Lanes == 16 && tokens == S.Lanes)
        {
            // A half's exponent carries into its sign bit where it is full.
            S.StoreShorts(target, halves);
            var words = (ulong*)target;
            ulong carries = Carry(words[0]) | Carry(words[1]) | Carry(words[2]) | Carry(words[3]);
            return (carries & 0x8000800080008000) == 0;
        }

        return WriteSome(halves, target, tokens);
    }

    /// <summary>True if the first <paramref name="tokens"/> floats are finite.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool AreFinite(float* x, int tokens)
    {
        bool isFinite = true;
        for (int t = 0; t < tokens; t++)
        {
            isFinite &= (((int*)x)[t] & int.MaxValue) < 0x7F800000;
        }

        return isFinite;
    }

    private static ulong Carry(ulong halves) => (halves & 0x7C007C007C007C00) + 0x0400040004000400;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool WriteSome(I halves, ushort* target, int tokens)
    {
        ushort* lanes = stackalloc ushort[S.Lanes];
        S.StoreShorts(lanes, halves);
        bool isFinite = true;
        for (int t = 0; t < tokens; t++)
        {
            target[t] = lanes[t];
            isFinite &= (lanes[t] & 0x7C00) != 0x7C00;
        }

        return isFinite;
    }
}
