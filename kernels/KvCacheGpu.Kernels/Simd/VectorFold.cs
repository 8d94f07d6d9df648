using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>How two partial results of a vector become one.</summary>
internal interface IFold
{
    static abstract F Fold<S, F, I>(F a, F b)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct;
}

internal struct AddFold : IFold
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Fold<S, F, I>(F a, F b)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => S.Add(a, b);
}

/// <summary>Of magnitudes, as their bits are ordered: NaN is above infinity.</summary>
internal struct MaxFold : IFold
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Fold<S, F, I>(F a, F b)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => S.AsFloat(S.MaxInt(S.AsInt(a), S.AsInt(b)));
}

internal struct LowestFold : IFold
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Fold<S, F, I>(F a, F b)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => S.Min(a, b);
}

internal struct HighestFold : IFold
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Fold<S, F, I>(F a, F b)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => S.Max(a, b);
}

/// <summary>
/// Sums and extremes of vectors. A vector first becomes one register; as many vectors as there are lanes are then transposed, so that the rest is
/// done for all of them at once. Sums add the upper half to the lower, as <see cref="Levels"/> defines.
/// </summary>
internal static unsafe class VectorFold<S, F, I>
    where S : struct, ISimd<F, I>
    where F : struct
    where I : struct
{
    /// <summary>The lanes of each vector in one, in parts[0 .. lanes - 1].</summary>
    /// <param name="parts">f32[vectors][lanes]; overwritten.</param>
    /// <param name="turned">As much room.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Lanes<TFold>(float* parts, float* turned)
        where TFold : struct, IFold
    {
        S.Transpose((int*)parts, S.Lanes, (int*)turned, S.Lanes);
        for (int half = S.Lanes / 2; half > 0; half /= 2)
        {
            for (int k = 0; k < half; k++)
            {
                float* p = turned + (k * S.Lanes);
                S.Store(p, TFold.Fold<S, F, I>(S.Load(p), S.Load(p + (half * S.Lanes))));
            }
        }

        S.Store(parts, S.Load(turned));
    }

    /// <summary>The largest magnitude of a vector, lane by lane.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Magnitude(float* vector, int stride)
    {
        I largest = S.AllInt(0), other = S.AllInt(0);
        int i = 0;
        for (; i + S.Lanes < stride; i += 2 * S.Lanes)
        {
            largest = S.MaxInt(largest, S.And(S.AsInt(S.Load(vector + i)), S.AllInt(int.MaxValue)));
            other = S.MaxInt(other, S.And(S.AsInt(S.Load(vector + i + S.Lanes)), S.AllInt(int.MaxValue)));
        }

        if (i < stride)
        {
            largest = S.MaxInt(largest, S.And(S.AsInt(S.Load(vector + i)), S.AllInt(int.MaxValue)));
        }

        return S.AsFloat(S.MaxInt(largest, other));
    }

    /// <summary>The sum of a vector's squares, or of its elements as they are, lane by lane.</summary>
    /// <param name="vector">The vector; overwritten with scratch where it is not of 8 or 16 registers.</param>
    /// <param name="stride">Elements.</param>
    /// <param name="scratch">Room for twice the elements, rounded up to a power of two.</param>
    /// <param name="squares">True if the elements are squares already.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F SquareSum(float* vector, int stride, float* scratch, bool squares)
    {
        int lanes = S.Lanes;
        if (stride == 8 * lanes)
        {
            F a = S.Add(Term(vector, squares), Term(vector + (4 * lanes), squares));
            F b = S.Add(Term(vector + lanes, squares), Term(vector + (5 * lanes), squares));
            F c = S.Add(Term(vector + (2 * lanes), squares), Term(vector + (6 * lanes), squares));
            F d = S.Add(Term(vector + (3 * lanes), squares), Term(vector + (7 * lanes), squares));
            return S.Add(S.Add(a, c), S.Add(b, d));
        }

        int padded = (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)stride);
        for (int i = 0; i < stride; i += lanes)
        {
            S.Store(scratch + i, Term(vector + i, squares));
        }

        for (int i = stride; i < padded; i += lanes)
        {
            S.Store(scratch + i, S.All(0f));
        }

        for (int half = padded / 2; half >= lanes; half /= 2)
        {
            for (int i = 0; i < half; i += lanes)
            {
                S.Store(scratch + i, S.Add(S.Load(scratch + i), S.Load(scratch + half + i)));
            }
        }

        return S.Load(scratch);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static F Term(float* p, bool squares)
    {
        F x = S.Load(p);
        return squares ? x : S.Multiply(x, x);
    }
}
