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

    /// <summary>Word i.</summary>
    [MethodImpl(Inlined)]
    public static int At(Words4 words, int i) => i == 0 ? words.X : i == 1 ? words.Y : i == 2 ? words.Z : words.W;

    /// <summary>Two elements of 16 bits of two tokens.</summary>
    [MethodImpl(Inlined)]
    public static Words2 Pair(int a, int b)
    {
        Words2 rows = default;
        rows.X = Lane.Permute(a, b, 0x5410);
        rows.Y = Lane.Permute(a, b, 0x7632);
        return rows;
    }

    /// <summary>Of words of four bytes those of a tile: two of token a in the low half, of token b in the high one.</summary>
    [MethodImpl(Inlined)]
    public static int Bytes(Words4 a, Words4 b, int tile) => Lane.Permute(At(a, tile >> 1), At(b, tile >> 1), (tile & 1) == 0 ? 0x5410 : 0x7632);

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

    /// <summary>Nibbles 2 tile and 2 tile + 1 as subnormal binary16 numbers, 2^24 and 2^20 times as small.</summary>
    [MethodImpl(Inlined)]
    public static Words2 Nibbles(int a, int b, int tile)
    {
        int both = Lane.Permute(a, b, tile < 2 ? 0x5410 : 0x7632);
        both = (tile & 1) == 0 ? both : both >>> 8;
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

    /// <summary>Codes of 2 bits in nibbles: of the even elements (X) and of the odd ones (Y) of half a word.</summary>
    [MethodImpl(Inlined)]
    public static Words4 TwoBits(WordViews words, int at, int half)
    {
        int pairs = words.One[at] >>> (16 * half);
        Words4 codes = default;
        codes.X = Lane.And(pairs, 0x3333);
        codes.Y = Lane.And(pairs >>> 2, 0x3333);
        return codes;
    }

    /// <summary>The same of 3 bits: odd lanes have the last 16 elements of three words, whose third bits lie two bits on.</summary>
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

    /// <summary>Codes of two tokens to levels in binary16, low bytes and high bytes by a look-up each: even elements in tiles 0 and 1, odd ones in tiles 2 and 3.</summary>
    [MethodImpl(Inlined)]
    public static Words2 Levels(Words4 a, Words4 b, int tile, int bits)
    {
        int codes = Lane.Permute(tile < 2 ? a.X : a.Y, tile < 2 ? b.X : b.Y, 0x5140);
        codes = (tile & 1) == 0 ? codes : codes >>> 16;
        int low = bits == 3 ? Lane.Permute(unchecked((int)0xD848D040), unchecked((int)0xD848D040), codes) : Lane.Permute(0x68706870, 0, codes);
        int high = bits == 3 ? Lane.Permute(unchecked((int)0xD6D4D0CA), 0x5654504A, codes) : Lane.Permute(0x5750D7D0, 0, codes);
        Words2 rows = default;
        rows.X = Lane.Permute(low, high, 0x6240);
        rows.Y = Lane.Permute(low, high, 0x7351);
        return rows;
    }
}
