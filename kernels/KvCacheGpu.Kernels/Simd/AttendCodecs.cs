using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

/// <summary>
/// How attention reads keys: word-major, lanes are tokens. A unit is one word a token, or three where third bits lie apart: two words of
/// bit pairs and one that serves both (<see cref="ThreeBits"/>). Constants are loaded once a call and handed in, so that they stay in registers.
/// </summary>
internal unsafe interface IKeyCodec
{
    /// <summary>Elements of a word: 1, 2 or a multiple of 4.</summary>
    static abstract int PerWord { get; }

    /// <summary>Bits of a code that is looked up in <see cref="LevelTables"/>; 0 where none is.</summary>
    static abstract int LevelBits { get; }

    /// <summary>True if a unit is two words of bit pairs and one of third bits.</summary>
    static abstract bool HasThirds { get; }

    /// <summary>
    /// Element j, 0..3 and constant at every call, of words that were shifted right by the elements before. Odd elements come from
    /// <paramref name="odds"/> where third bits lie apart; other formats do not read it.
    /// </summary>
    static abstract F Element<S, F, I>(I words, I odds, int j, float* table, F low, F high)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct;
}

/// <summary>How attention reads values: token-major, lanes are elements.</summary>
internal unsafe interface IValueCodec
{
    /// <summary>Bits of an element.</summary>
    static abstract int Bits { get; }

    /// <summary>As <see cref="IKeyCodec.LevelBits"/>.</summary>
    static abstract int LevelBits { get; }

    /// <summary>True if elements come out divided by <see cref="LaneScales"/>: one multiplication at the end of a page brings them back.</summary>
    static abstract bool ScalesLanes { get; }

    /// <summary>The constants of <see cref="Elements"/>, by lane, for pointers that were advanced to an element.</summary>
    static abstract (I Lanes, I Thirds) Constants<S, F, I>(int element)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct;

    /// <summary>The factor of each lane.</summary>
    static abstract F LaneScales<S, F, I>()
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct;

    /// <summary>Where to advance the pointers to, in bytes from the start of a vector: to an element's bits, and to its third bit's word.</summary>
    static abstract (int Vector, int Third) BytesTo(int element);

    /// <summary>
    /// Consecutive elements of one vector from <paramref name="element"/>, a multiple of the lanes and constant at every call, counted from
    /// the element that both pointers were advanced to: a multiple of 32 with 16 lanes, of 16 with 8. Scalar code leaves them at the vector's
    /// start and counts from there.
    /// </summary>
    static abstract F Elements<S, F, I>(byte* vector, byte* third, int element, float* table, F low, F high, I lanes, I thirds)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct;
}

/// <summary>Formats whose elements are whole bytes.</summary>
internal unsafe struct Whole<TCodec> : IKeyCodec, IValueCodec
    where TCodec : struct, ISimdCodec
{
    public static int PerWord => TCodec.PerWord;

    public static int Bits => 32 / TCodec.PerWord;

    public static int LevelBits => 0;

    public static bool HasThirds => false;

    public static bool ScalesLanes => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Element<S, F, I>(I words, I odds, int j, float* table, F low, F high)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => TCodec.Element<S, F, I>(words, j);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (I Lanes, I Thirds) Constants<S, F, I>(int element)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => default;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F LaneScales<S, F, I>()
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => default;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (int Vector, int Third) BytesTo(int element) => (element * sizeof(int) / TCodec.PerWord, 0);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Elements<S, F, I>(byte* vector, byte* third, int element, float* table, F low, F high, I lanes, I thirds)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => TCodec.Elements<S, F, I>((int*)vector, element);
}

/// <summary>
/// Bytes of a word. A byte in the fraction of a number with a fitting unit is that number plus the byte: for the lower two a logic operation
/// and a subtraction do, which run on pipes that shifts and products leave free.
/// </summary>
internal unsafe struct KeysI8 : IKeyCodec
{
    public static int PerWord => 4;

    public static int LevelBits => 0;

    public static bool HasThirds => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Element<S, F, I>(I words, I odds, int j, float* table, F low, F high)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => j switch
        {
            // A unit of 1 at 2^23, of 2^-8 at 2^15; 128 more, since the byte's top bit is flipped.
            0 => S.Subtract(S.AsFloat(S.AndXor(words, S.AllInt(0xFF), S.AllInt(0x4B000080))), S.All(8388736f)),
            1 => S.Subtract(S.AsFloat(S.AndXor(words, S.AllInt(0xFF00), S.AllInt(0x47008000))), S.All(32896f)),
            2 => S.ToFloat(S.ShiftRight(S.ShiftLeft(words, 8), 24)),
            _ => S.ToFloat(S.ShiftRight(words, 24)),
        };
}

/// <summary>Levels of 4-bit codes.</summary>
internal unsafe struct KeysT4 : IKeyCodec
{
    public static int PerWord => 8;

    public static int LevelBits => 4;

    public static bool HasThirds => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Element<S, F, I>(I words, I odds, int j, float* table, F low, F high)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => S.Lookup(table, low, high, j == 0 ? words : S.ShiftRight(words, 4 * j));
}

/// <summary>Levels of 2-bit codes.</summary>
internal unsafe struct KeysT2 : IKeyCodec
{
    public static int PerWord => 16;

    public static int LevelBits => 2;

    public static bool HasThirds => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Element<S, F, I>(I words, I odds, int j, float* table, F low, F high)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => S.Lookup(table, low, high, j == 0 ? words : S.ShiftRight(words, 2 * j));
}

/// <summary>Bit pairs and third bits as nibbles, which <see cref="PageLayout"/> lays out for this: a mask takes either where it lies.</summary>
internal static class ThreeBits
{
    /// <summary>Bits of pairs; third bits, brought into place, lie at the others.</summary>
    private const int Pairs = 0x33333333;

    /// <summary>
    /// Of a word of bit pairs the codes of its even elements, a nibble each, and of its odd ones. A nibble's top bit means nothing.
    /// </summary>
    /// <param name="pairs">The word.</param>
    /// <param name="thirds">The word of third bits.</param>
    /// <param name="isSecond">True for the second word of pairs, whose third bits lie in place.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (I Evens, I Odds) Nibbles<S, F, I>(I pairs, I thirds, bool isSecond)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        thirds = isSecond ? thirds : S.ShiftLeft(thirds, 2);
        return (S.Select(S.AllInt(Pairs), pairs, thirds), S.Select(S.AllInt(Pairs), S.ShiftRight(pairs, 2), S.ShiftRight(thirds, 1)));
    }
}

/// <summary>Levels of 3-bit codes, in words of nibbles (<see cref="ThreeBits"/>).</summary>
internal unsafe struct KeysT3 : IKeyCodec
{
    public static int PerWord => 16;

    public static int LevelBits => 3;

    public static bool HasThirds => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Element<S, F, I>(I words, I odds, int j, float* table, F low, F high)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        I nibbles = j % 2 == 0 ? words : odds;
        return S.Lookup(table, low, high, j < 2 ? nibbles : S.ShiftRight(nibbles, 4));
    }
}

/// <summary>
/// Codes of 4 bits. Lane pairs hold the two words of 16 elements: element e is nibble e/2 of word e%2, so that a nibble masked where it
/// lies is its code times 16^(lane/2), which the accumulator keeps until the page is done: no shift in the loop.
/// </summary>
internal unsafe struct ValuesV4 : IValueCodec
{
    public static int Bits => 4;

    public static int LevelBits => 0;

    public static bool ScalesLanes => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (I Lanes, I Thirds) Constants<S, F, I>(int element)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => (S.LoadInt(LevelTables.NibbleMasks), default);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F LaneScales<S, F, I>()
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => S.Load(LevelTables.NibbleScales);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (int Vector, int Third) BytesTo(int element) => ((element / 16 * 8) + (element % 16 / 4), 0);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Elements<S, F, I>(byte* vector, byte* third, int element, float* table, F low, F high, I lanes, I thirds)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        if (S.Lanes == 1)
        {
            int word = ((int*)vector)[(element / 16 * 2) + (element % 2)];
            return S.ToFloat(S.AllInt((word >> (4 * (element % 16 / 2))) & 15));
        }

        // Eight elements on, nibbles lie two bytes on in both words.
        return S.UnsignedToFloat(S.And(S.RepeatPair(vector + BytesTo(element).Vector), lanes));
    }
}

/// <summary>q4_0 without its zero: 32 elements are 16 bytes, the first half of them in the lower nibbles.</summary>
internal unsafe struct ValuesQ4 : IValueCodec
{
    private const int Half = GgmlCodes.Elements / 2;

    public static int Bits => 4;

    public static int LevelBits => 0;

    public static bool ScalesLanes => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (I Lanes, I Thirds) Constants<S, F, I>(int element)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => (S.AllInt(element % GgmlCodes.Elements < Half ? 0 : 4), default);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F LaneScales<S, F, I>()
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => default;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (int Vector, int Third) BytesTo(int element) => (element / GgmlCodes.Elements * Half, 0);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Elements<S, F, I>(byte* vector, byte* third, int element, float* table, F low, F high, I lanes, I thirds)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        if (S.Lanes == 1)
        {
            int value = vector[BytesTo(element).Vector + (element % Half)];
            return S.ToFloat(S.AllInt(element % GgmlCodes.Elements < Half ? value & 15 : value >> 4));
        }

        // With 16 lanes a vector is one half of a block, with 8 half of that: then the pointers' place says which half.
        I bytes = S.WidenInt8((sbyte*)vector + (element % Half));
        bytes = S.Lanes == 16 ? element == 0 ? bytes : S.ShiftRight(bytes, 4) : S.ShiftRightEach(bytes, lanes);
        return S.ToFloat(S.And(bytes, S.AllInt(15)));
    }
}

/// <summary>Levels of 2-bit codes: each lane shifts its code down.</summary>
internal unsafe struct ValuesV2 : IValueCodec
{
    public static int Bits => 2;

    public static int LevelBits => 2;

    public static bool ScalesLanes => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (I Lanes, I Thirds) Constants<S, F, I>(int element)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => (S.ShiftLeft(S.Indices(), 1), default);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F LaneScales<S, F, I>()
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => default;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (int Vector, int Third) BytesTo(int element) => (element / 4, 0);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Elements<S, F, I>(byte* vector, byte* third, int element, float* table, F low, F high, I lanes, I thirds)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        if (S.Lanes == 1)
        {
            return S.Lookup(table, low, high, S.AllInt(((int*)vector)[element / 16] >> (2 * (element % 16))));
        }

        return S.Lookup(table, low, high, S.ShiftRightEach(S.AllInt(*(int*)(vector + BytesTo(element).Vector)), lanes));
    }
}

/// <summary>Levels of 3-bit codes. 32 elements are three words: bit pairs of the first 16, of the others, and third bits.</summary>
internal unsafe struct ValuesV3 : IValueCodec
{
    private const int BlockBytes = 12;
    private const int ThirdsByte = 8;
    private const int HalfElements = 16;

    public static int Bits => 3;

    public static int LevelBits => 3;

    public static bool ScalesLanes => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (I Lanes, I Thirds) Constants<S, F, I>(int element)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        // A third bit lies at 4 (f / 2) + f % 2, and 2 higher in the second half of 32 elements.
        I even = S.ShiftLeft(S.ShiftRight(S.Indices(), 1), 2);
        I counts = S.Or(even, S.And(S.Indices(), S.AllInt(1)));
        return (S.ShiftLeft(S.Indices(), 1), S.AddInt(counts, S.AllInt(element % 32 < HalfElements ? 0 : 2)));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F LaneScales<S, F, I>()
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct => default;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (int Vector, int Third) BytesTo(int element) => ((element / 32 * BlockBytes) + (element % 32 / 4), (element / 32 * BlockBytes) + ThirdsByte);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Elements<S, F, I>(byte* vector, byte* third, int element, float* table, F low, F high, I lanes, I thirds)
        where S : struct, ISimd<F, I>
        where F : struct
        where I : struct
    {
        if (S.Lanes == 1)
        {
            var block = (int*)(vector + (element / 32 * BlockBytes));
            int f = element % HalfElements;
            int bit = (f / 2 * 4) + (f % 2) + (element % 32 / HalfElements * 2);
            int code = ((block[element % 32 / HalfElements] >> (2 * f)) & 3) | (((block[2] >> bit) & 1) << 2);
            return S.Lookup(table, low, high, S.AllInt(code));
        }

        // Eight elements on, third bits lie two bytes on; sixteen elements on, two bits, where they are at once above the pairs.
        I pair = S.ShiftRightEach(S.AllInt(*(int*)(vector + BytesTo(element).Vector)), lanes);
        I high3 = S.ShiftRightEach(S.AllInt(*(int*)(third + BytesTo(element).Third - ThirdsByte + (element % HalfElements / 4))), thirds);
        return S.Lookup(table, low, high, S.Select(S.AllInt(3), pair, element % 32 < HalfElements ? S.ShiftLeft(high3, 2) : high3));
    }
}
