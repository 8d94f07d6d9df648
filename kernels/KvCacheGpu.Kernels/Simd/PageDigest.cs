using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>Mean and deviation over a page's tokens, in the tokens' order; lanes are elements.</summary>
internal static unsafe class PageDigest<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    private const float Largest = 65504f;

    /// <summary>Adds rows to sums[stride].</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Add(float* rows, int tokens, int stride, float* sums)
    {
        for (int i = 0; i < stride; i += S.Lanes)
        {
            F sum = S.Load(sums + i);
            for (float* x = rows + i, end = x + ((long)tokens * stride); x < end; x += stride)
            {
                sum = S.Add(sum, S.Load(x));
            }

            S.Store(sums + i, sum);
        }
    }

    /// <summary>Adds the squares of rows less their mean to squares[stride]; leaves the differences in the rows where they are wanted.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddSquares(float* rows, int tokens, int stride, float* mean, float* squares, bool center)
    {
        for (int i = 0; i < stride; i += S.Lanes)
        {
            F m = S.Load(mean + i);
            F sum = S.Load(squares + i);
            for (float* x = rows + i, end = x + ((long)tokens * stride); x < end; x += stride)
            {
                F e = S.Subtract(S.Load(x), m);
                if (center)
                {
                    S.Store(x, e);
                }

                sum = S.Add(sum, S.Multiply(e, e));
            }

            S.Store(squares + i, sum);
        }
    }

    /// <summary>sums / tokens, rounded to binary16 and saturated: as bits in <paramref name="target"/>, as floats in <paramref name="mean"/>.</summary>
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
    public static void Deviation(float* squares, int tokens, int width, int stride, ushort* target, int* scratch)
    {
        F count = S.All(tokens);
        for (int i = 0; i < stride; i += S.Lanes)
        {
            S.Store(squares + i, Saturated(S.Sqrt(S.Divide(S.Load(squares + i), count))));
        }

        Write(squares, width, stride, target, scratch);
    }

    private static void Write(float* row, int width, int stride, ushort* target, int* scratch)
    {
        PackVector<S, F, I>.Pack(PageFormat.F16, row, stride, scratch);
        new Span<ushort>(scratch, width).CopyTo(new Span<ushort>(target, width));
    }

    private static F Saturated(F x) => S.Max(S.All(-Largest), S.Min(S.All(Largest), x));
}
