using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>Words of values as they lie to words of operands.</summary>
internal static class ValueWords
{
    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;

    /// <summary>1, 2 or 4 words of a token.</summary>
    [MethodImpl(Inlined)]
    public static Words4 Load(WordViews words, int at, int count)
    {
        if (count == 4)
        {
            return words.Four[at / 4];
        }

        Words4 loaded = default;
        if (count == 2)
        {
            Words2 two = words.Two[at / 2];
            loaded.X = two.X;
            loaded.Y = two.Y;
        }
        else
        {
            loaded.X = words.One[at];
        }

        return loaded;
    }

    /// <summary>Two elements of 16 bits of two tokens.</summary>
    [MethodImpl(Inlined)]
    public static Words2 Pair(int a, int b)
    {
        Words2 rows = default;
        rows.X = Lane.Permute(a, b, 0x5410);
        rows.Y = Lane.Permute(a, b, 0x7632);
        return rows;
    }

    /// <summary>FP8 numbers, 2^8 times as small.</summary>
    [MethodImpl(Inlined)]
    public static Words2 Fp8(int bytes)
    {
        Words2 rows = default;
        rows.X = EightBits.Even(bytes);
        rows.Y = EightBits.Odd(bytes);
        return rows;
    }

    /// <summary>Bytes as subnormal binary16 numbers, 2^24 times as small, with their offset.</summary>
    [MethodImpl(Inlined)]
    public static Words2 I8(int bytes, int offset)
    {
        Words2 rows = default;
        rows.X = Lane.AndXor(bytes, 0x00FF00FF, offset);
        rows.Y = Lane.AndXor(bytes >>> 8, 0x00FF00FF, offset);
        return rows;
    }

    /// <summary>The two lowest nibbles of each half as subnormal binary16 numbers, 2^24 and 2^20 times as small.</summary>
    [MethodImpl(Inlined)]
    public static Words2 Nibbles(int both)
    {
        Words2 rows = default;
        rows.X = Lane.And(both, 0x000F000F);
        rows.Y = Lane.And(both, 0x00F000F0);
        return rows;
    }

    /// <summary>A word, moved so that the lane's nibble is the lowest of each half.</summary>
    [MethodImpl(Inlined)]
    public static Words4 Nibble(WordViews words, int at)
    {
        Words4 loaded = default;
        loaded.X = words.One[at] >>> (4 * ((Group.IdxX & 31) >> 3));
        return loaded;
    }

    /// <summary>The lowest nibble of each half of two tokens.</summary>
    [MethodImpl(Inlined)]
    public static Words2 TwoNibbles(int a, int b)
    {
        Words2 rows = default;
        rows.X = Lane.And(Lane.Permute(a, b, 0x5410), 0x000F000F);
        rows.Y = Lane.And(Lane.Permute(a, b, 0x7632), 0x000F000F);
        return rows;
    }

    /// <summary>A word of 16 codes, of which half a word is meant: with the selector of its bytes beside those of another token.</summary>
    [MethodImpl(Inlined)]
    public static Words4 TwoBits(WordViews words, int at, int half)
    {
        Words4 codes = default;
        codes.X = words.One[at];
        codes.W = half == 0 ? 0x5140 : 0x7362;
        return codes;
    }

    /// <summary>Even codes of half a word of two tokens in nibbles: of the first byte in the low half, of the second in the high one.</summary>
    [MethodImpl(Inlined)]
    public static int EvenPairs(Words4 a, Words4 b) => Lane.And(Lane.Permute(a.X, b.X, a.W), 0x33333333);

    /// <summary>Odd codes.</summary>
    [MethodImpl(Inlined)]
    public static int OddPairs(Words4 a, Words4 b) => Lane.And(Lane.Permute(a.X, b.X, a.W) >>> 2, 0x33333333);

    /// <summary>Codes of 3 bits in nibbles: of the even elements (X) and of the odd ones (Y) of half a word. Odd lanes have the last 16 elements of three words, whose third bits lie two bits on.</summary>
    [MethodImpl(Inlined)]
    public static Words4 ThreeBits(WordViews words, int at, int half)
    {
        int odd = ((Group.IdxX & 31) >> 2) & 1;
        int pairs = words.One[at] >>> (16 * half);
        int thirds = (words.One[at + 2 - odd] >>> (16 * half)) >>> (2 * odd);
        Words4 codes = default;
        codes.X = Lane.And(pairs, 0x3333) | Lane.And(thirds << 2, 0x4444);
        codes.Y = Lane.And(pairs >>> 2, 0x3333) | Lane.And(thirds << 1, 0x4444);
        return codes;
    }

    /// <summary>127.5 and the levels of three bits, by code: negative ones, then positive ones. The negated level of a code is that of the other sign.</summary>
    public static OffsetWords ThreeBitTables => OffsetWords.Of(0x123B5973, unchecked((int)0xEDC4A68C));

    /// <summary>127.5 and the levels of two bits, and 127.5 less the levels.</summary>
    public static OffsetWords TwoBitTables => OffsetWords.Of(unchecked((int)0xF6A3095C), 0x095CF6A3);

    /// <summary>Codes of two tokens, in the low half of a word, to levels with their offset; or to levels in binary16, low bytes and high bytes by a look-up each.</summary>
    [MethodImpl(Inlined)]
    public static Words2 ThreeBitLevels(int codes, OffsetWords turn) => turn.IsPlain
        ? Joined(Lane.Permute(unchecked((int)0xD848D040), unchecked((int)0xD848D040), codes), Lane.Permute(unchecked((int)0xD6D4D0CA), 0x5654504A, codes))
        : Widened(Lane.Permute(turn.X, turn.Y, codes));

    /// <summary>The same of 2 bits.</summary>
    [MethodImpl(Inlined)]
    public static Words2 TwoBitLevels(int codes, OffsetWords turn) => turn.IsPlain
        ? Joined(Lane.Permute(0x68706870, 0, codes), Lane.Permute(0x5750D7D0, 0, codes))
        : Widened(Lane.Permute(turn.X, 0, codes));

    [MethodImpl(Inlined)]
    private static Words2 Joined(int low, int high)
    {
        Words2 rows = default;
        rows.X = Lane.Permute(low, high, 0x6240);
        rows.Y = Lane.Permute(low, high, 0x7351);
        return rows;
    }

    // Even bytes, then odd ones, as subnormal binary16 numbers, 2^24 times as small.
    [MethodImpl(Inlined)]
    private static Words2 Widened(int bytes)
    {
        Words2 rows = default;
        rows.X = Lane.And(bytes, 0x00FF00FF);
        rows.Y = Lane.Permute(bytes, 0, 0x4341);
        return rows;
    }
}
