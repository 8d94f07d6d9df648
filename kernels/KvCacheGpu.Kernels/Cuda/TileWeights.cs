using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>A page's products to weights: masks, soft cap, online softmax. Each page by its own largest logit.</summary>
internal static class TileWeights
{
    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;

    // Weights in binary16 are at most 2^14, so that the second part of one that is 2^-28 is not lost. In bfloat16 they are small, so that no sum of values up
    // to 2^128 leaves binary32.
    private const float HalfBias = 14f;
    private const float BFloatBias = -24f;

    /// <summary>The exponent of the factor that all weights of a query have.</summary>
    [MethodImpl(Inlined)]
    public static float Bias<TValue>()
        where TValue : struct, IValueTiles =>
        default(TValue).Scales != Scaling.None ? 0f : default(TValue).Arithmetic == TileArithmetic.BFloats ? BFloatBias : HalfBias;

    /// <summary>The largest number of each of a lane's two columns.</summary>
    [MethodImpl(Inlined)]
    public static ScalePair Largest<TColumns>(Span64 s)
        where TColumns : struct, IQueryColumns
    {
        ScalePair most = default;
        most.A = Lane.LargestOfRows(Lane.Max(
            Lane.Max(Lane.Max(s.T0.A, s.T1.A), Lane.Max(s.T2.A, s.T3.A)), Lane.Max(Lane.Max(s.T0.C, s.T1.C), Lane.Max(s.T2.C, s.T3.C))));
        if (default(TColumns).Count == 8)
        {
            most.B = Lane.LargestOfRows(Lane.Max(
                Lane.Max(Lane.Max(s.T0.B, s.T1.B), Lane.Max(s.T2.B, s.T3.B)), Lane.Max(Lane.Max(s.T0.D, s.T1.D), Lane.Max(s.T2.D, s.T3.D))));
        }

        return most;
    }

    /// <summary>The sum of a lane's numbers of each of its two columns.</summary>
    [MethodImpl(Inlined)]
    public static ScalePair Sum<TColumns>(Span64 s)
        where TColumns : struct, IQueryColumns
    {
        ScalePair sum = default;
        sum.A = s.T0.A + s.T1.A + (s.T2.A + s.T3.A) + (s.T0.C + s.T1.C + (s.T2.C + s.T3.C));
        if (default(TColumns).Count == 8)
        {
            sum.B = s.T0.B + s.T1.B + (s.T2.B + s.T3.B) + (s.T0.D + s.T1.D + (s.T2.D + s.T3.D));
        }

        return sum;
    }

    /// <summary>Moves a column's largest logit up to a page's; returns the factor of its earlier sums.</summary>
    [MethodImpl(Inlined)]
    public static float Advance<TKey>(ref ColumnState column, float largest)
        where TKey : struct, IKeyTiles
    {
        // Products of bfloat16 numbers may be so large that as logits they leave binary32: their differences are taken first.
        bool isRaw = default(TKey).Arithmetic == TileArithmetic.BFloats;
        float next = Lane.Max(column.Most, isRaw ? largest : largest * column.Factor);
        float difference = column.Most - next;
        column.Most = next;
        return Lane.Exp2(isRaw ? difference * column.Factor : difference);
    }

    /// <summary>
    /// Moves what a column's weights are relative to up, so that a page's weights are at most 2^shift; returns the factor of its earlier sums. Nothing else has to know a page's
    /// shift: all sums are of such weights, and a quotient of two is free of it. Where binary32 could not hold the shift beside the logit there is none.
    /// </summary>
    [MethodImpl(Inlined)]
    public static float AdvanceBy(ref ColumnState column, float largest, float shift)
    {
        float logit = largest * column.Factor;
        float next = Lane.Max(column.Most, logit - (Lane.Absolute(logit) < column.Unshifted ? shift : 0f));
        float difference = column.Most - next;
        column.Most = next;
        return Lane.Exp2(difference);
    }

    /// <summary>s = 2^(logit - largest + bias).</summary>
    [MethodImpl(Inlined)]
    public static void Weigh<TKey, TColumns>(ref Span64 s, ColumnState a, ColumnState b, float bias)
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
    {
        Weigh<TKey, TColumns>(ref s.T0, a, b, bias);
        Weigh<TKey, TColumns>(ref s.T1, a, b, bias);
        Weigh<TKey, TColumns>(ref s.T2, a, b, bias);
        Weigh<TKey, TColumns>(ref s.T3, a, b, bias);
    }

    /// <summary>Hides the tokens that a query does not see.</summary>
    [MethodImpl(Inlined)]
    public static void Mask<TShape>(ref Span64 s, ColumnState a, ColumnState b, int entry, int first, int pageTokens, int window)
        where TShape : struct, ITensorShape
    {
        int own = TokenOrder.Lane<TShape>() * ((Group.IdxX & 31) >> 2);
        first += own;
        pageTokens -= own;
        Mask(ref s.T0, a, b, entry, first, window, pageTokens);
        Mask(ref s.T1, a, b, entry, first + TokenOrder.Tile<TShape>(1), window, pageTokens - TokenOrder.Tile<TShape>(1));
        Mask(ref s.T2, a, b, entry, first + TokenOrder.Tile<TShape>(2), window, pageTokens - TokenOrder.Tile<TShape>(2));
        Mask(ref s.T3, a, b, entry, first + TokenOrder.Tile<TShape>(3), window, pageTokens - TokenOrder.Tile<TShape>(3));
    }

    /// <summary>Products to capped logits in base 2, whose factor is 1.</summary>
    [MethodImpl(Inlined)]
    public static void Cap(ref Span64 s, ColumnState a, ColumnState b, float cap)
    {
        Cap(ref s.T0, a, b, cap);
        Cap(ref s.T1, a, b, cap);
        Cap(ref s.T2, a, b, cap);
        Cap(ref s.T3, a, b, cap);
    }

    [MethodImpl(Inlined)]
    private static void Weigh<TKey, TColumns>(ref Floats4 t, ColumnState a, ColumnState b, float bias)
        where TKey : struct, IKeyTiles
        where TColumns : struct, IQueryColumns
    {
        t.A = Weight<TKey>(t.A, a, bias);
        t.C = Weight<TKey>(t.C, a, bias);
        if (default(TColumns).Count == 8)
        {
            t.B = Weight<TKey>(t.B, b, bias);
            t.D = Weight<TKey>(t.D, b, bias);
        }
    }

    /// <summary>2^(logit - largest + bias).</summary>
    [MethodImpl(Inlined)]
    public static float Weight<TKey>(float s, ColumnState column, float bias)
        where TKey : struct, IKeyTiles => Lane.Exp2(
            default(TKey).Arithmetic == TileArithmetic.BFloats
                ? Lane.Fma(s - column.Most, column.Factor, bias)
                : Lane.Fma(s, column.Factor, bias - column.Most));

    [MethodImpl(Inlined)]
    private static void Mask(ref Floats4 t, ColumnState a, ColumnState b, int entry, int first, int window, int tokens)
    {
        t.A = tokens > 0 && a.Sees(entry, first, window) ? t.A : float.NegativeInfinity;
        t.B = tokens > 0 && b.Sees(entry, first, window) ? t.B : float.NegativeInfinity;
        t.C = tokens > 0 && a.Sees(entry, first + 1, window) ? t.C : float.NegativeInfinity;
        t.D = tokens > 0 && b.Sees(entry, first + 1, window) ? t.D : float.NegativeInfinity;
    }

    [MethodImpl(Inlined)]
    private static void Cap(ref Floats4 t, ColumnState a, ColumnState b, float cap)
    {
        t.A = Capped(t.A, a, cap);
        t.B = Capped(t.B, b, cap);
        t.C = Capped(t.C, a, cap);
        t.D = Capped(t.D, b, cap);
    }

    /// <summary>A product to a capped logit in base 2.</summary>
    [MethodImpl(Inlined)]
    public static float Capped(float s, ColumnState column, float cap) =>
        PortableMath.Capped(PortableMath.Scaled(s * column.CapBase * TensorAttend.Ln2, column.CapExtra), cap) * TensorAttend.Log2E;
}
