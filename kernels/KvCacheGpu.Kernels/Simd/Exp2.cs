using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>2^x for x at most 0 (a softmax's weights), relative error below 2e-7; below -126 exactly 0.</summary>
internal static class Exp2<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    // 2^f on [-0.5, 0.5] as a Taylor polynomial of f ln 2: the first term left out is below 2e-8.
    private const float C1 = 0.6931471806f;
    private const float C2 = 0.2402265070f;
    private const float C3 = 0.0555041087f;
    private const float C4 = 0.0096181291f;
    private const float C5 = 0.0013333558f;
    private const float C6 = 0.0001540353f;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Of(F x)
    {
        F least = S.All(-126f);
        F clamped = S.Max(x, least);
        I n = S.Round(clamped);
        F f = S.Subtract(clamped, S.ToFloat(n));
        F p = S.MultiplyAdd(S.All(C6), f, S.All(C5));
        p = S.MultiplyAdd(p, f, S.All(C4));
        p = S.MultiplyAdd(p, f, S.All(C3));
        p = S.MultiplyAdd(p, f, S.All(C2));
        p = S.MultiplyAdd(p, f, S.All(C1));
        p = S.MultiplyAdd(p, f, S.All(1f));
        F power = S.AsFloat(S.ShiftLeft(S.AddInt(n, S.AllInt(127)), 23));
        return S.IfLess(x, least, S.All(0f), S.Multiply(p, power));
    }
}
