using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>F16 values, <typeparamref name="TWords"/> words a lane: 1, 2 or 4.</summary>
internal readonly struct F16Values<TWords> : IValueTiles
    where TWords : struct, INumber
{
    public TileArithmetic Arithmetic => TileArithmetic.Halves;

    public Scaling Scales => Scaling.None;

    public bool IsOfOpenPages => true;

    public bool IsOffset => false;

    public int Tiles => default(TWords).Value;

    public int LoadWords => 8 * default(TWords).Value;

    public float Step => 1f;

    public int Words(int width) => width / 2;

    public int Loads(int width) => width / (16 * default(TWords).Value);

    public int Groups(int width) => 0;

    public int GroupElements(int width) => width;

    public float Factor(int half) => 1f;

    public int FirstWord(int load) => 8 * default(TWords).Value * load;

    public int LaneWord(int g) => default(TWords).Value * g;

    public int LaneEnd(int g) => default(TWords).Value * (g + 1);

    public Words4 Load(WordViews words, int at, int load) => ValueWords.Load(words, at, default(TWords).Value);

    public Words2 Rows(Words4 a, Words4 b, int tile, bool isOdd) => ValueWords.Pair(ValueWords.At(a, tile), ValueWords.At(b, tile));

    public int Element(int load, int g, int tile, int half) => (16 * default(TWords).Value * load) + (2 * default(TWords).Value * g) + (2 * tile) + half;
}

/// <summary>BF16 values, <typeparamref name="TWords"/> words a lane: 1, 2 or 4.</summary>
internal readonly struct BF16Values<TWords> : IValueTiles
    where TWords : struct, INumber
{
    public TileArithmetic Arithmetic => TileArithmetic.BFloats;

    public Scaling Scales => Scaling.None;

    public bool IsOfOpenPages => true;

    public bool IsOffset => false;

    public int Tiles => default(TWords).Value;

    public int LoadWords => 8 * default(TWords).Value;

    public float Step => 1f;

    public int Words(int width) => width / 2;

    public int Loads(int width) => width / (16 * default(TWords).Value);

    public int Groups(int width) => 0;

    public int GroupElements(int width) => width;

    public float Factor(int half) => 1f;

    public int FirstWord(int load) => 8 * default(TWords).Value * load;

    public int LaneWord(int g) => default(TWords).Value * g;

    public int LaneEnd(int g) => default(TWords).Value * (g + 1);

    public Words4 Load(WordViews words, int at, int load) => ValueWords.Load(words, at, default(TWords).Value);

    public Words2 Rows(Words4 a, Words4 b, int tile, bool isOdd) => ValueWords.Pair(ValueWords.At(a, tile), ValueWords.At(b, tile));

    public int Element(int load, int g, int tile, int half) => (16 * default(TWords).Value * load) + (2 * default(TWords).Value * g) + (2 * tile) + half;
}

/// <summary>FP8 values, <typeparamref name="TWords"/> words a lane: 1 or 2.</summary>
internal readonly struct Fp8Values<TWords> : IValueTiles
    where TWords : struct, INumber
{
    public TileArithmetic Arithmetic => TileArithmetic.Halves;

    public Scaling Scales => Scaling.None;

    public bool IsOfOpenPages => false;

    public bool IsOffset => false;

    public int Tiles => 2 * default(TWords).Value;

    public int LoadWords => 8 * default(TWords).Value;

    public float Step => 1f;

    public int Words(int width) => width / 4;

    public int Loads(int width) => (width + (32 * default(TWords).Value) - 1) / (32 * default(TWords).Value);

    public int Groups(int width) => 0;

    public int GroupElements(int width) => width;

    public float Factor(int half) => 256f;

    public int FirstWord(int load) => 8 * default(TWords).Value * load;

    public int LaneWord(int g) => default(TWords).Value * g;

    public int LaneEnd(int g) => default(TWords).Value * (g + 1);

    public Words4 Load(WordViews words, int at, int load) => ValueWords.Load(words, at, default(TWords).Value);

    public Words2 Rows(Words4 a, Words4 b, int tile, bool isOdd) => ValueWords.Fp8(ValueWords.Bytes(a, b, tile));

    public int Element(int load, int g, int tile, int half) => (32 * default(TWords).Value * load) + (4 * default(TWords).Value * g) + (2 * tile) + half;
}

/// <summary>I8 values, <typeparamref name="TWords"/> words a lane: 1 or 2.</summary>
internal readonly struct I8Values<TWords> : IValueTiles
    where TWords : struct, INumber
{
    public TileArithmetic Arithmetic => TileArithmetic.Halves;

    public Scaling Scales => Scaling.Vector;

    public bool IsOfOpenPages => false;

    public bool IsOffset => true;

    public int Tiles => 2 * default(TWords).Value;

    public int LoadWords => 8 * default(TWords).Value;

    public float Step => 1f;

    public int Words(int width) => width / 4;

    public int Loads(int width) => (width + (32 * default(TWords).Value) - 1) / (32 * default(TWords).Value);

    public int Groups(int width) => 0;

    public int GroupElements(int width) => width;

    public float Factor(int half) => 16777216f;

    public int FirstWord(int load) => 8 * default(TWords).Value * load;

    public int LaneWord(int g) => default(TWords).Value * g;

    public int LaneEnd(int g) => default(TWords).Value * (g + 1);

    public Words4 Load(WordViews words, int at, int load) => ValueWords.Load(words, at, default(TWords).Value);

    public Words2 Rows(Words4 a, Words4 b, int tile, bool isOdd) => ValueWords.I8(ValueWords.Bytes(a, b, tile), isOdd ? 0x007F007F : 0x00800080);

    public int Element(int load, int g, int tile, int half) => (32 * default(TWords).Value * load) + (4 * default(TWords).Value * g) + (2 * tile) + half;
}

/// <summary>V4 values of groups of 64, a word a lane: eight elements of one group.</summary>
internal readonly struct V4Values : IValueTiles
{
    public TileArithmetic Arithmetic => TileArithmetic.Halves;

    public Scaling Scales => Scaling.Group;

    public bool IsOfOpenPages => false;

    public bool IsOffset => false;

    public int Tiles => 4;

    public int LoadWords => 8;

    public float Step => 1f;

    public int Words(int width) => (width + 15) / 16 * 2;

    public int Loads(int width) => width / 64;

    public int Groups(int width) => width / 64;

    public int GroupElements(int width) => 64;

    public float Factor(int half) => half == 0 ? 16777216f : 1048576f;

    public int FirstWord(int load) => 8 * load;

    public int LaneWord(int g) => g;

    public int LaneEnd(int g) => g + 1;

    public Words4 Load(WordViews words, int at, int load) => ValueWords.Load(words, at, 1);

    public Words2 Rows(Words4 a, Words4 b, int tile, bool isOdd) => ValueWords.Nibbles(a.X, b.X, tile);

    public int Element(int load, int g, int tile, int half) => (64 * load) + (16 * (g >> 1)) + (4 * tile) + (2 * half) + (g & 1);
}

/// <summary>V4 values of groups of 16 or 32 (<typeparamref name="TGroup"/>): two elements a lane.</summary>
internal readonly struct V4NarrowValues<TGroup> : IValueTiles
    where TGroup : struct, INumber
{
    public TileArithmetic Arithmetic => TileArithmetic.Halves;

    public Scaling Scales => Scaling.Group;

    public bool IsOfOpenPages => false;

    public bool IsOffset => false;

    public int Tiles => 1;

    public int LoadWords => 2;

    public float Step => 1f;

    public int Words(int width) => (width + 15) / 16 * 2;

    public int Loads(int width) => width / 16;

    public int Groups(int width) => width / default(TGroup).Value;

    public int GroupElements(int width) => default(TGroup).Value;

    public float Factor(int half) => 16777216f;

    public int FirstWord(int load) => 2 * load;

    public int LaneWord(int g) => g & 1;

    public int LaneEnd(int g) => (g & 1) + 1;

    public Words4 Load(WordViews words, int at, int load) => ValueWords.Nibble(words, at);

    public Words2 Rows(Words4 a, Words4 b, int tile, bool isOdd) => ValueWords.TwoNibbles(a.X, b.X);

    public int Element(int load, int g, int tile, int half) => (16 * load) + g + (8 * half);
}

/// <summary>V3 values: in one load half of the 16 elements that a lane has of three words.</summary>
internal readonly struct V3Values : IValueTiles
{
    public TileArithmetic Arithmetic => TileArithmetic.Halves;

    public Scaling Scales => Scaling.Vector;

    public bool IsOfOpenPages => false;

    public bool IsOffset => false;

    public int Tiles => 4;

    public int LoadWords => 12;

    public float Step => 1f / 50.9f;

    public int Words(int width) => (width + 31) / 32 * 3;

    public int Loads(int width) => (width + 127) / 128 * 2;

    public int Groups(int width) => 0;

    public int GroupElements(int width) => width;

    public float Factor(int half) => 1f;

    public int FirstWord(int load) => 12 * (load >> 1);

    public int LaneWord(int g) => (3 * (g >> 1)) + (g & 1);

    public int LaneEnd(int g) => (3 * (g >> 1)) + 3;

    public Words4 Load(WordViews words, int at, int load) => ValueWords.ThreeBits(words, at, load & 1);

    public Words2 Rows(Words4 a, Words4 b, int tile, bool isOdd) => ValueWords.Levels(a, b, tile, 3);

    public int Element(int load, int g, int tile, int half) => (128 * (load >> 1)) + (16 * g) + (8 * (load & 1)) + (tile < 2 ? 4 * tile : (4 * tile) - 7) + (2 * half);
}

/// <summary>V2 values: in one load half of a word of 16 elements.</summary>
internal readonly struct V2Values : IValueTiles
{
    public TileArithmetic Arithmetic => TileArithmetic.Halves;

    public Scaling Scales => Scaling.Vector;

    public bool IsOfOpenPages => false;

    public bool IsOffset => false;

    public int Tiles => 4;

    public int LoadWords => 8;

    public float Step => 1f / 78.45f;

    public int Words(int width) => (width + 15) / 16;

    public int Loads(int width) => (width + 127) / 128 * 2;

    public int Groups(int width) => 0;

    public int GroupElements(int width) => width;

    public float Factor(int half) => 1f;

    public int FirstWord(int load) => 8 * (load >> 1);

    public int LaneWord(int g) => g;

    public int LaneEnd(int g) => g + 1;

    public Words4 Load(WordViews words, int at, int load) => ValueWords.TwoBits(words, at, load & 1);

    public Words2 Rows(Words4 a, Words4 b, int tile, bool isOdd) => ValueWords.Levels(a, b, tile, 2);

    public int Element(int load, int g, int tile, int half) => (128 * (load >> 1)) + (16 * g) + (8 * (load & 1)) + (tile < 2 ? 4 * tile : (4 * tile) - 7) + (2 * half);
}

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
