using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>How SIMD kernels read one page format. Elements come out divided by <see cref="SimdFormats.Factor"/>, which the caller folds into its weights.</summary>
internal unsafe interface ISimdCodec
{
    /// <summary>Elements in a word: a constant, so that loops unroll by it.</summary>
    static abstract int PerWord { get; }

    /// <summary>Element j of the words of as many tokens as there are lanes; j is a constant at every call.</summary>
    static abstract F Element<S, F, I>(I words, int j)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct;

    /// <summary>Consecutive elements of one vector, from <paramref name="element"/>.</summary>
    static abstract F Elements<S, F, I>(int* words, int element)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct;
}

internal unsafe struct SimdF32 : ISimdCodec
{
    public static int PerWord => 1;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Element<S, F, I>(I words, int j)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => S.AsFloat(words);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Elements<S, F, I>(int* words, int element)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => S.Load((float*)words + element);
}

/// <summary>
/// A half's exponent and fraction, moved into a float's place, give its value times 2^-112, subnormals included:
/// three integer operations instead of a conversion that .NET does not expose.
/// </summary>
internal unsafe struct SimdF16 : ISimdCodec
{
    private const int KeepSignExponentFraction = unchecked((int)0x8FFFE000);

    public static int PerWord => 2;

    /// <summary>Factor that decoded elements still need: 2^112.</summary>
    public const float Factor = 5.192296858534828e33f;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Element<S, F, I>(I words, int j)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        I high = j == 0 ? S.ShiftLeft(words, 16) : words;
        return S.AsFloat(S.And(S.ShiftRight(high, 3), S.AllInt(KeepSignExponentFraction)));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Elements<S, F, I>(int* words, int element)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        I wide = S.WidenInt16((short*)words + element);
        return S.AsFloat(S.And(S.ShiftLeft(wide, 13), S.AllInt(KeepSignExponentFraction)));
    }
}

/// <summary>
/// The same for caches that keep NaN and infinities (<see cref="KernelShape.KeepsNonFinite"/>): the largest exponent becomes the largest one of
/// binary32. That takes two operations more for each register; caches that refuse such elements do without them.
/// </summary>
internal unsafe struct SimdF16Kept : ISimdCodec
{
    private const int LargestExponent = 0x0F800000;
    private const int NonFinite = 0x7F800000;

    public static int PerWord => SimdF16.PerWord;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Element<S, F, I>(I words, int j)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => Mended<S, F, I>(SimdF16.Element<S, F, I>(words, j));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Elements<S, F, I>(int* words, int element)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => Mended<S, F, I>(SimdF16.Elements<S, F, I>(words, element));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static F Mended<S, F, I>(F element)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        I bits = S.AsInt(element);
        F magnitude = S.AsFloat(S.And(bits, S.AllInt(int.MaxValue)));
        return S.IfLess(magnitude, S.AsFloat(S.AllInt(LargestExponent)), element, S.AsFloat(S.Or(bits, S.AllInt(NonFinite))));
    }
}

internal unsafe struct SimdBF16 : ISimdCodec
{
    public static int PerWord => 2;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Element<S, F, I>(I words, int j)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => S.AsFloat(j == 0 ? S.ShiftLeft(words, 16) : S.And(words, S.AllInt(unchecked((int)0xFFFF0000))));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Elements<S, F, I>(int* words, int element)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => S.AsFloat(S.ShiftLeft(S.WidenInt16((short*)words + element), 16));
}

/// <summary>The codes alone; their scale is per token and joins logits and weights.</summary>
internal unsafe struct SimdI8 : ISimdCodec
{
    public static int PerWord => 4;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Element<S, F, I>(I words, int j)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => S.ToFloat(S.ShiftRight(j == 3 ? words : S.ShiftLeft(words, 24 - (8 * j)), 24));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Elements<S, F, I>(int* words, int element)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => S.ToFloat(S.WidenInt8((sbyte*)words + element));
}

/// <summary>Sign, exponent and fraction in a float's place give the value times 2^-120, subnormals included.</summary>
internal unsafe struct SimdFP8 : ISimdCodec
{
    private const int KeepSignExponentFraction = unchecked((int)0x87F00000);

    public static int PerWord => 4;

    /// <summary>Factor that decoded elements still need: 2^120.</summary>
    public const float Factor = 1.329227995784916e36f;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Element<S, F, I>(I words, int j)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        I high = j == 3 ? words : S.ShiftLeft(words, 24 - (8 * j));
        return S.AsFloat(S.And(S.ShiftRight(high, 4), S.AllInt(KeepSignExponentFraction)));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Elements<S, F, I>(int* words, int element)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        I wide = S.WidenInt8((sbyte*)words + element);
        return S.AsFloat(S.And(S.ShiftLeft(wide, 20), S.AllInt(KeepSignExponentFraction)));
    }
}
