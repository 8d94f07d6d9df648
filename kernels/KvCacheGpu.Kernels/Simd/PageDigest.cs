using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>Mean and deviation over a page's tokens, in the tokens' order; lanes are elements.</summary>
internal static unsafe class PageDigest<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    private const float Largest = 65504f;

    /// <summary>Adds vectors to sums[stride].</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Add(float* vectors, int tokens, int stride, float* sums)
    {
        int i = 0;
        for (; i + (4 * S.Lanes) <= stride; i += 4 * S.Lanes)
        {
            // Tokens are added in their order: only sums of several elements at once hide the additions' latency.
            F a = S.Load(sums + i), b = S.Load(sums + i + S.Lanes), c = S.Load(sums + i + (2 * S.Lanes)), d = S.Load(sums + i + (3 * S.Lanes));
            for (float* x = vectors + i, end = x + ((long)tokens * stride); x < end; x += stride)
            {
                a = S.Add(a, S.Load(x));
                b = S.Add(b, S.Load(x + S.Lanes));
                c = S.Add(c, S.Load(x + (2 * S.Lanes)));
                d = S.Add(d, S.Load(x + (3 * S.Lanes)));
            }

            S.Store(sums + i, a);
            S.Store(sums + i + S.Lanes, b);
            S.Store(sums + i + (2 * S.Lanes), c);
            S.Store(sums + i + (3 * S.Lanes), d);
        }

        for (; i < stride; i += S.Lanes)
        {
            F sum = S.Load(sums + i);
            for (float* x = vectors + i, end = x + ((long)tokens * stride); x < end; x += stride)
            {
                sum = S.Add(sum, S.Load(x));
            }

            S.Store(sums + i, sum);
        }
    }

    /// <summary>Adds the squares of vectors less their mean to squares[stride]; leaves the differences in the vectors where they are wanted.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddSquares(float* vectors, int tokens, int stride, float* mean, float* squares, bool center)
    {
        int i = 0;
        for (; i + (4 * S.Lanes) <= stride; i += 4 * S.Lanes)
        {
            float* m = mean + i;
            F ma = S.Load(m), mb = S.Load(m + S.Lanes), mc = S.Load(m + (2 * S.Lanes)), md = S.Load(m + (3 * S.Lanes));
            float* to = squares + i;
            F a = S.Load(to), b = S.Load(to + S.Lanes), c = S.Load(to + (2 * S.Lanes)), d = S.Load(to + (3 * S.Lanes));
            for (float* x = vectors + i, end = x + ((long)tokens * stride); x < end; x += stride)
            {
                a = AddSquare(x, ma, a, center);
                b = AddSquare(x + S.Lanes, mb, b, center);
                c = AddSquare(x + (2 * S.Lanes), mc, c, center);
                d = AddSquare(x + (3 * S.Lanes), md, d, center);
            }

            S.Store(to, a);
            S.Store(to + S.Lanes, b);
            S.Store(to + (2 * S.Lanes), c);
            S.Store(to + (3 * S.Lanes), d);
        }

        for (; i < stride; i += S.Lanes)
        {
            F m = S.Load(mean + i);
            F sum = S.Load(squares + i);
            for (float* x = vectors + i, end = x + ((long)tokens * stride); x < end; x += stride)
            {
                sum = AddSquare(x, m, sum, center);
            }

            S.Store(squares + i, sum);
        }
    }

    /// <summary>sums / tokens, rounded to binary16 and saturated: as bits in <paramref name="target"/>, as floats in <paramref name="mean"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Mean(float* sums, int tokens, int width, int stride, float* mean, ushort* target, int* scratch)
    {
        F count = S.All(tokens);
        for (int i = 0; i < stride; i += S.Lanes)
        {
            S.Store(mean + i, Saturated(S.Divide(S.Load(sums + i), count)));
        }

        Write(mean, width, stride, target, scratch);
        F factor = S.All(SimdF16.Factor);
        for (int i = 0; i < stride; i += S.Lanes)
        {
            S.Store(mean + i, S.Multiply(SimdF16.Elements<S, F, I>(scratch, i), factor));
        }
    }

    /// <summary>sqrt(squares / tokens), rounded to binary16 and saturated.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Deviation(float* squares, int tokens, int width, int stride, ushort* target, int* scratch)
    {
        F count = S.All(tokens);
        for (int i = 0; i < stride; i += S.Lanes)
        {
            S.Store(squares + i, Saturated(S.Sqrt(S.Divide(S.Load(squares + i), count))));
        }

        Write(squares, width, stride, target, scratch);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static F AddSquare(float* x, F mean, F sum, bool center)
    {
        F e = S.Subtract(S.Load(x), mean);
        if (center)
        {
            S.Store(x, e);
        }

        return S.Add(sum, S.Multiply(e, e));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Write(float* vector, int width, int stride, ushort* target, int* scratch)
    {
        PackVector<S, F, I>.Pack(PageFormat.F16, vector, stride, scratch);
        new Span<ushort>(scratch, width).CopyTo(new Span<ushort>(target, width));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static F Saturated(F x) => S.Max(S.All(-Largest), S.Min(S.All(Largest), x));
}
