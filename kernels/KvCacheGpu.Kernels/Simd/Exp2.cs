using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>2^x for x at most 0 (a softmax's weights), relative error below 2.5e-7, and 1 for 0; below -126 it may be 0, and below -150 it is.</summary>
internal static class Exp2<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    // 1.5 * 2^23: adding and subtracting it rounds to the nearest whole number.
    private const float RoundingBias = 12582912f;

    // 2^f on [-0.5, 0.5] as a Taylor polynomial of f ln 2: the first term left out is below 2e-8.
    private const float C1 = 0.6931471806f;
    private const float C2 = 0.2402265070f;
    private const float C3 = 0.0555041087f;
    private const float C4 = 0.0096181291f;
    private const float C5 = 0.0013333558f;
    private const float C6 = 0.0001540353f;

    // 2^f on [0, 1], exact at 0: the polynomial of the least relative error (Remez), 8.3e-8, and 1.5e-7 in binary32.
    private const float D1 = 0.6931513118f;
    private const float D2 = 0.2401644501f;
    private const float D3 = 0.0557999131f;
    private const float D4 = 0.0090170303f;
    private const float D5 = 0.0018671301f;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Of(F x) => S.HasFraction ? OfFraction(x) : OfRounded(x);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static F OfFraction(F x)
    {
        F f = S.Fraction(x);
        F p = S.MultiplyAdd(S.All(D5), f, S.All(D4));
        p = S.MultiplyAdd(p, f, S.All(D3));
        p = S.MultiplyAdd(p, f, S.All(D2));
        p = S.MultiplyAdd(p, f, S.All(D1));
        p = S.MultiplyAdd(p, f, S.All(1f));
        return S.Scale(p, x);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static F OfRounded(F x)
    {
        F clamped = S.Max(x, S.All(-200f));
        F n = S.Subtract(S.Add(clamped, S.All(RoundingBias)), S.All(RoundingBias));
        F f = S.Subtract(clamped, n);
        F p = S.MultiplyAdd(S.All(C6), f, S.All(C5));
        p = S.MultiplyAdd(p, f, S.All(C4));
        p = S.MultiplyAdd(p, f, S.All(C3));
        p = S.MultiplyAdd(p, f, S.All(C2));
        p = S.MultiplyAdd(p, f, S.All(C1));
        p = S.MultiplyAdd(p, f, S.All(1f));
        return S.Scale(p, n);
    }
}
