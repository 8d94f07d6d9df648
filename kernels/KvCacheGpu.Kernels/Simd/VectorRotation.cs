using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>The multiplications of a rotation before and after its butterflies.</summary>
internal unsafe interface IRotationDirection
{
    static abstract F Before<S, F, I>(F x, float* table)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct;

    static abstract F After<S, F, I>(F x, F norm, float* table)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct;
}

/// <summary>x' = H D x: signs, butterflies, norm.</summary>
internal unsafe struct Forth : IRotationDirection
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Before<S, F, I>(F x, float* table)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => S.Multiply(x, S.Load(table));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F After<S, F, I>(F x, F norm, float* table)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => S.Multiply(x, norm);
}

/// <summary>x = D H x': butterflies, then norm and signs in one exact table.</summary>
internal unsafe struct Back : IRotationDirection
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Before<S, F, I>(F x, float* table)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => x;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F After<S, F, I>(F x, F norm, float* table)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => S.Multiply(x, S.Load(table));
}

/// <summary>
/// <see cref="Rotation"/> of vectors, lanes being elements: the smallest butterflies inside a register, the next between eight
/// registers, larger ones in memory. Each sum is that of the definition, so that results are equal bit for bit.
/// </summary>
internal static unsafe class VectorRotation<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    /// <summary>Rotates vectors.</summary>
    /// <param name="words">Elements as the codec reads them, without gaps; may be <paramref name="vectors"/>.</param>
    /// <param name="vectors">Out: f32, written to a multiple of eight registers.</param>
    /// <param name="count">Elements, from the start of a vector.</param>
    /// <param name="plan">The rotation.</param>
    /// <param name="table">The direction's factors, as many as the plan's period.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Transform<TCodec, TDirection>(int* words, float* vectors, int count, VectorPlan plan, float* table)
        where TCodec : struct, ISimdCodec
        where TDirection : struct, IRotationDirection
    {
        int block = plan.Block, lanes = S.Lanes, period = plan.Period;
        F norm = S.All(plan.Norm);
        int phase = 0;
        for (int i = 0; i < count; i += 8 * lanes)
        {
            float* p = table + phase;
            phase += 8 * lanes;
            phase = phase == period ? 0 : phase;
            F a = TDirection.Before<S, F, I>(TCodec.Elements<S, F, I>(words, i), p);
            F b = TDirection.Before<S, F, I>(TCodec.Elements<S, F, I>(words, i + lanes), p + lanes);
            F c = TDirection.Before<S, F, I>(TCodec.Elements<S, F, I>(words, i + (2 * lanes)), p + (2 * lanes));
            F d = TDirection.Before<S, F, I>(TCodec.Elements<S, F, I>(words, i + (3 * lanes)), p + (3 * lanes));
            F e = TDirection.Before<S, F, I>(TCodec.Elements<S, F, I>(words, i + (4 * lanes)), p + (4 * lanes));
            F f = TDirection.Before<S, F, I>(TCodec.Elements<S, F, I>(words, i + (5 * lanes)), p + (5 * lanes));
            F g = TDirection.Before<S, F, I>(TCodec.Elements<S, F, I>(words, i + (6 * lanes)), p + (6 * lanes));
            F h = TDirection.Before<S, F, I>(TCodec.Elements<S, F, I>(words, i + (7 * lanes)), p + (7 * lanes));
            if (block > 1 && S.Lanes > 1)
            {
                (a, b, c, d) = (S.Butterfly(a, 1), S.Butterfly(b, 1), S.Butterfly(c, 1), S.Butterfly(d, 1));
                (e, f, g, h) = (S.Butterfly(e, 1), S.Butterfly(f, 1), S.Butterfly(g, 1), S.Butterfly(h, 1));
            }

            if (block > 2 && S.Lanes > 2)
            {
                (a, b, c, d) = (S.Butterfly(a, 2), S.Butterfly(b, 2), S.Butterfly(c, 2), S.Butterfly(d, 2));
                (e, f, g, h) = (S.Butterfly(e, 2), S.Butterfly(f, 2), S.Butterfly(g, 2), S.Butterfly(h, 2));
            }

            if (block > 4 && S.Lanes > 4)
            {
                (a, b, c, d) = (S.Butterfly(a, 4), S.Butterfly(b, 4), S.Butterfly(c, 4), S.Butterfly(d, 4));
                (e, f, g, h) = (S.Butterfly(e, 4), S.Butterfly(f, 4), S.Butterfly(g, 4), S.Butterfly(h, 4));
            }

            if (block > 8 && S.Lanes > 8)
            {
                (a, b, c, d) = (S.Butterfly(a, 8), S.Butterfly(b, 8), S.Butterfly(c, 8), S.Butterfly(d, 8));
                (e, f, g, h) = (S.Butterfly(e, 8), S.Butterfly(f, 8), S.Butterfly(g, 8), S.Butterfly(h, 8));
            }

            if (block > lanes)
            {
                (a, b, c, d) = (S.Add(a, b), S.Subtract(a, b), S.Add(c, d), S.Subtract(c, d));
                (e, f, g, h) = (S.Add(e, f), S.Subtract(e, f), S.Add(g, h), S.Subtract(g, h));
            }

            if (block > 2 * lanes)
            {
                (a, b, c, d) = (S.Add(a, c), S.Add(b, d), S.Subtract(a, c), S.Subtract(b, d));
                (e, f, g, h) = (S.Add(e, g), S.Add(f, h), S.Subtract(e, g), S.Subtract(f, h));
            }

            if (block > 4 * lanes)
            {
                (a, b, e, f) = (S.Add(a, e), S.Add(b, f), S.Subtract(a, e), S.Subtract(b, f));
                (c, d, g, h) = (S.Add(c, g), S.Add(d, h), S.Subtract(c, g), S.Subtract(d, h));
            }

            float* to = vectors + i;
            if (block > 8 * lanes)
            {
                S.Store(to, a);
                S.Store(to + lanes, b);
                S.Store(to + (2 * lanes), c);
                S.Store(to + (3 * lanes), d);
                S.Store(to + (4 * lanes), e);
                S.Store(to + (5 * lanes), f);
                S.Store(to + (6 * lanes), g);
                S.Store(to + (7 * lanes), h);
                continue;
            }

            S.Store(to, TDirection.After<S, F, I>(a, norm, p));
            S.Store(to + lanes, TDirection.After<S, F, I>(b, norm, p + lanes));
            S.Store(to + (2 * lanes), TDirection.After<S, F, I>(c, norm, p + (2 * lanes)));
            S.Store(to + (3 * lanes), TDirection.After<S, F, I>(d, norm, p + (3 * lanes)));
            S.Store(to + (4 * lanes), TDirection.After<S, F, I>(e, norm, p + (4 * lanes)));
            S.Store(to + (5 * lanes), TDirection.After<S, F, I>(f, norm, p + (5 * lanes)));
            S.Store(to + (6 * lanes), TDirection.After<S, F, I>(g, norm, p + (6 * lanes)));
            S.Store(to + (7 * lanes), TDirection.After<S, F, I>(h, norm, p + (7 * lanes)));
        }

        if (block > 8 * lanes)
        {
            Large<TDirection>(vectors, count, plan, table);
        }
    }

    // Butterflies wider than eight registers; the norm comes after the last.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Large<TDirection>(float* vectors, int count, VectorPlan plan, float* table)
        where TDirection : struct, IRotationDirection
    {
        for (int half = 8 * S.Lanes; half < plan.Block; half *= 2)
        {
            for (int start = 0; start < count; start += 2 * half)
            {
                for (float* x = vectors + start, end = x + half; x < end; x += S.Lanes)
                {
                    F a = S.Load(x), b = S.Load(x + half);
                    S.Store(x, S.Add(a, b));
                    S.Store(x + half, S.Subtract(a, b));
                }
            }
        }

        F norm = S.All(plan.Norm);
        for (int i = 0, phase = 0; i < count; i += S.Lanes)
        {
            S.Store(vectors + i, TDirection.After<S, F, I>(S.Load(vectors + i), norm, table + phase));
            phase += S.Lanes;
            phase = phase == plan.Period ? 0 : phase;
        }
    }
}
