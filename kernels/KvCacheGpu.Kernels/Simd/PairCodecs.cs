using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Keys as signed bytes, for products of pairs of 16-bit numbers: word-major, lanes are tokens. A word gives one vector of bytes, or two; each of these the pairs of its
/// even bytes and of its odd ones.
/// </summary>
internal unsafe interface IPairKeys
{
    /// <summary>Vectors of bytes that a word gives: 1 or 2.</summary>
    static abstract int Halves { get; }

    /// <summary>The largest magnitude of a byte.</summary>
    static abstract int MostCode { get; }

    /// <summary>What an element has beyond its byte.</summary>
    static abstract float Offset { get; }

    /// <summary>The bytes of one half of a word; the half is constant at every call.</summary>
    static abstract I Bytes<S, F, I>(I words, int half, I table)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct;
}

/// <summary>Bytes as they lie.</summary>
internal unsafe struct PairKeysI8 : IPairKeys
{
    public static int Halves => 1;

    public static int MostCode => 128;

    public static float Offset => 0f;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I Bytes<S, F, I>(I words, int half, I table)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => words;
}

/// <summary>Levels of 4-bit codes less a half: whole numbers that bytes hold. The first half of a word is its even elements.</summary>
internal unsafe struct PairKeysT4 : IPairKeys
{
    public static int Halves => 2;

    public static int MostCode => 128;

    public static float Offset => 0.5f;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I Bytes<S, F, I>(I words, int half, I table)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => S.LookupBytes(table, S.And(half == 0 ? words : S.ShiftRight(words, 4), S.AllInt(0x0F0F0F0F)));
}

/// <summary>Values for products of pairs of 16-bit numbers: token-major, the pair of two tokens. Elements come in vectors that are brought into order once a page.</summary>
internal unsafe interface IPairValues
{
    /// <summary>Bits of an element.</summary>
    static abstract int Bits { get; }

    /// <summary>Pairs of as many elements as four vectors have lanes, from where the pointers point to.</summary>
    static abstract (I A, I B, I C, I D) Pairs<S, F, I>(byte* first, byte* second)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct;

    /// <summary>Sums of such pairs, in the order of the elements.</summary>
    static abstract (F A, F B, F C, F D) InOrder<S, F, I>(F a, F b, F c, F d)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct;
}

/// <summary>Signed bytes: a 16-bit part of a vector holds an even element and an odd one.</summary>
internal unsafe struct PairValuesI8 : IPairValues
{
    public static int Bits => 8;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (I A, I B, I C, I D) Pairs<S, F, I>(byte* first, byte* second)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        I low = S.InterleaveShorts(first, second), high = S.InterleaveShorts(first + (2 * S.Lanes), second + (2 * S.Lanes));
        return (S.EvenBytes(low), S.OddBytes(low), S.EvenBytes(high), S.OddBytes(high));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (F A, F B, F C, F D) InOrder<S, F, I>(F a, F b, F c, F d)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        ((F first, F second), (F third, F fourth)) = (S.Zip(a, b), S.Zip(c, d));
        return (first, second, third, fourth);
    }
}

/// <summary>
/// Codes of 4 bits. Of 16 elements the even ones lie in a first word and the odd ones in a second: 16 bits hold four of them, so that a lane's nibble j is element 2 j of its
/// part. Lanes are halved by word first, and zipped twice into the order inside a word, and once more word by word.
/// </summary>
internal unsafe struct PairValuesV4 : IPairValues
{
    private const int Nibbles = 0x000F000F;

    public static int Bits => 4;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (I A, I B, I C, I D) Pairs<S, F, I>(byte* first, byte* second)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        I x = S.InterleaveHalves(first, second), mask = S.AllInt(Nibbles);
        return (S.And(x, mask), S.And(S.ShiftRight(x, 4), mask), S.And(S.ShiftRight(x, 8), mask), S.And(S.ShiftRight(x, 12), mask));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (F A, F B, F C, F D) InOrder<S, F, I>(F a, F b, F c, F d)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        ((F evensLow, F evensHigh), (F oddsLow, F oddsHigh)) = (S.Zip(a, c), S.Zip(b, d));
        ((F even0, F even1), (F odd0, F odd1)) = (S.Zip(evensLow, oddsLow), S.Zip(evensHigh, oddsHigh));
        ((F first, F second), (F third, F fourth)) = (S.Zip(even0, odd0), S.Zip(even1, odd1));
        return (first, second, third, fourth);
    }
}
