using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace KvCacheGpu.Kernels;

/// <summary>
/// The soft cap of logits (<see cref="KvGeometry.LogitSoftCap"/>) of four queries over one page: raw sums of products become tanh(logit / cap), which
/// from then on is the raw logit, and log2(e) * cap its factor.
/// </summary>
internal static unsafe class LogitCap<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    // Below it 1 - exp(-2x) would lose digits, and a polynomial takes its place (Cephes, tanhf).
    private const float Small = 0.625f;
    private const float C1 = -3.33332819422e-1f;
    private const float C2 = 1.33314422036e-1f;
    private const float C3 = -5.37397155531e-2f;
    private const float C4 = 2.06390887954e-2f;
    private const float C5 = -5.70498872745e-3f;

    private const float MinusTwoLog2E = -2.885390082f;

    /// <summary>Caps raw logits f32[4][stride] in place, and finds each query's largest.</summary>
    /// <param name="logits">In: raw logits, keys' scales applied. Out: tanh(logit / cap).</param>
    /// <param name="stride">From one query to the next.</param>
    /// <param name="padded">Tokens, a multiple of the lanes.</param>
    /// <param name="state"><see cref="SoftmaxState.PageMaximum"/> is written.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Apply(float* logits, int stride, int padded, SoftmaxState* state)
    {
        F a = S.All(float.NegativeInfinity), b = a, c = a, d = a;
        F fa = S.All(state->CapFactor[0]), fb = S.All(state->CapFactor[1]), fc = S.All(state->CapFactor[2]), fd = S.All(state->CapFactor[3]);
        F lift = S.All(state->CapLift);
        for (int t = 0; t < padded; t += S.Lanes)
        {
            float* p = logits + t;
            a = S.Max(a, Cap(p, fa, lift));
            b = S.Max(b, Cap(p + stride, fb, lift));
            c = S.Max(c, Cap(p + (2 * stride), fc, lift));
            d = S.Max(d, Cap(p + (3 * stride), fd, lift));
        }

        S.LargestOf(a, b, c, d).Store(state->PageMaximum);
    }

    /// <summary>tanh(x), relative error below 3e-7; an infinity gives 1 of its sign, and what is not a number stays so.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Tanh(F x)
    {
        F magnitude = S.Abs(x), one = S.All(1f);
        F power = Exp2<S, F, I>.Of(S.Multiply(magnitude, S.All(MinusTwoLog2E)));
        F large = S.Divide(S.Subtract(one, power), S.Add(one, power));
        I sign = S.And(S.AsInt(x), S.AllInt(int.MinValue));
        large = S.AsFloat(S.Or(S.AsInt(large), sign));

        F square = S.Multiply(x, x);
        F p = S.MultiplyAdd(S.All(C5), square, S.All(C4));
        p = S.MultiplyAdd(p, square, S.All(C3));
        p = S.MultiplyAdd(p, square, S.All(C2));
        p = S.MultiplyAdd(p, square, S.All(C1));
        F small = S.MultiplyAdd(S.Multiply(p, square), x, x);

        // A comparison with NaN is false: it ends in the last of these.
        return S.IfLess(magnitude, S.All(Small), small, S.IfLess(S.All(Small / 2), magnitude, large, x));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static F Cap(float* logits, F factor, F lift)
    {
        F capped = Tanh(S.Multiply(S.Multiply(S.Load(logits), factor), lift));
        S.Store(logits, capped);
        return capped;
    }
}
