namespace KvCacheGpu.Kernels;

/// <summary>F16 values, <typeparamref name="TWords"/> words a lane: 1, 2 or 4.</summary>
internal readonly struct F16Values<TWords> : IValueTiles
    where TWords : struct, INumber
{
    public TileArithmetic Arithmetic => TileArithmetic.Halves;

    public Scaling Scales => Scaling.None;

    public bool IsOfOpenPages => true;

    public ValueOffset Offset => ValueOffset.None;

    public OffsetWords Turn => default;

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

    public Words2 Rows0(Words4 a, Words4 b, OffsetWords turn) => ValueWords.Pair(a.X, b.X);

    public Words2 Rows1(Words4 a, Words4 b, OffsetWords turn) => ValueWords.Pair(a.Y, b.Y);

    public Words2 Rows2(Words4 a, Words4 b, OffsetWords turn) => ValueWords.Pair(a.Z, b.Z);

    public Words2 Rows3(Words4 a, Words4 b, OffsetWords turn) => ValueWords.Pair(a.W, b.W);

    public int Element(int load, int g, int tile, int half) => (16 * default(TWords).Value * load) + (2 * default(TWords).Value * g) + (2 * tile) + half;
}

/// <summary>BF16 values, <typeparamref name="TWords"/> words a lane: 1, 2 or 4.</summary>
internal readonly struct BF16Values<TWords> : IValueTiles
    where TWords : struct, INumber
{
    public TileArithmetic Arithmetic => TileArithmetic.BFloats;

    public Scaling Scales => Scaling.None;

    public bool IsOfOpenPages => true;

    public ValueOffset Offset => ValueOffset.None;

    public OffsetWords Turn => default;

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

    public Words2 Rows0(Words4 a, Words4 b, OffsetWords turn) => ValueWords.Pair(a.X, b.X);

    public Words2 Rows1(Words4 a, Words4 b, OffsetWords turn) => ValueWords.Pair(a.Y, b.Y);

    public Words2 Rows2(Words4 a, Words4 b, OffsetWords turn) => ValueWords.Pair(a.Z, b.Z);

    public Words2 Rows3(Words4 a, Words4 b, OffsetWords turn) => ValueWords.Pair(a.W, b.W);

    public int Element(int load, int g, int tile, int half) => (16 * default(TWords).Value * load) + (2 * default(TWords).Value * g) + (2 * tile) + half;
}

/// <summary>FP8 values, <typeparamref name="TWords"/> words a lane: 1 or 2.</summary>
internal readonly struct Fp8Values<TWords> : IValueTiles
    where TWords : struct, INumber
{
    public TileArithmetic Arithmetic => TileArithmetic.Halves;

    public Scaling Scales => Scaling.None;

    public bool IsOfOpenPages => false;

    public ValueOffset Offset => ValueOffset.None;

    public OffsetWords Turn => default;

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

    public Words2 Rows0(Words4 a, Words4 b, OffsetWords turn) => ValueWords.Fp8(Lane.Permute(a.X, b.X, 0x5410));

    public Words2 Rows1(Words4 a, Words4 b, OffsetWords turn) => ValueWords.Fp8(Lane.Permute(a.X, b.X, 0x7632));

    public Words2 Rows2(Words4 a, Words4 b, OffsetWords turn) => ValueWords.Fp8(Lane.Permute(a.Y, b.Y, 0x5410));

    public Words2 Rows3(Words4 a, Words4 b, OffsetWords turn) => ValueWords.Fp8(Lane.Permute(a.Y, b.Y, 0x7632));

    public int Element(int load, int g, int tile, int half) => (32 * default(TWords).Value * load) + (4 * default(TWords).Value * g) + (2 * tile) + half;
}

/// <summary>I8 values, <typeparamref name="TWords"/> words a lane: 1 or 2.</summary>
internal readonly struct I8Values<TWords> : IValueTiles
    where TWords : struct, INumber
{
    public TileArithmetic Arithmetic => TileArithmetic.Halves;

    public Scaling Scales => Scaling.Vector;

    public bool IsOfOpenPages => false;

    public ValueOffset Offset => ValueOffset.Byte;

    public OffsetWords Turn => OffsetWords.Of(0x00800080, 0x007F007F);

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

    public Words2 Rows0(Words4 a, Words4 b, OffsetWords turn) => ValueWords.I8(Lane.Permute(a.X, b.X, 0x5410), turn.X);

    public Words2 Rows1(Words4 a, Words4 b, OffsetWords turn) => ValueWords.I8(Lane.Permute(a.X, b.X, 0x7632), turn.X);

    public Words2 Rows2(Words4 a, Words4 b, OffsetWords turn) => ValueWords.I8(Lane.Permute(a.Y, b.Y, 0x5410), turn.X);

    public Words2 Rows3(Words4 a, Words4 b, OffsetWords turn) => ValueWords.I8(Lane.Permute(a.Y, b.Y, 0x7632), turn.X);

    public int Element(int load, int g, int tile, int half) => (32 * default(TWords).Value * load) + (4 * default(TWords).Value * g) + (2 * tile) + half;
}

/// <summary>V4 values of groups of 64, a word a lane: eight elements of one group.</summary>
internal readonly struct V4Values : IValueTiles
{
    public TileArithmetic Arithmetic => TileArithmetic.Halves;

    public Scaling Scales => Scaling.Group;

    public bool IsOfOpenPages => false;

    public ValueOffset Offset => ValueOffset.None;

    public OffsetWords Turn => default;

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

    public Words2 Rows0(Words4 a, Words4 b, OffsetWords turn) => ValueWords.Nibbles(Lane.Permute(a.X, b.X, 0x5410));

    public Words2 Rows1(Words4 a, Words4 b, OffsetWords turn) => ValueWords.Nibbles(Lane.Permute(a.X, b.X, 0x5410) >>> 8);

    public Words2 Rows2(Words4 a, Words4 b, OffsetWords turn) => ValueWords.Nibbles(Lane.Permute(a.X, b.X, 0x7632));

    public Words2 Rows3(Words4 a, Words4 b, OffsetWords turn) => ValueWords.Nibbles(Lane.Permute(a.X, b.X, 0x7632) >>> 8);

    public int Element(int load, int g, int tile, int half) => (64 * load) + (16 * (g >> 1)) + (4 * tile) + (2 * half) + (g & 1);
}

/// <summary>V4 values of groups of 16 or 32 (<typeparamref name="TGroup"/>): two elements a lane.</summary>
internal readonly struct V4NarrowValues<TGroup> : IValueTiles
    where TGroup : struct, INumber
{
    public TileArithmetic Arithmetic => TileArithmetic.Halves;

    public Scaling Scales => Scaling.Group;

    public bool IsOfOpenPages => false;

    public ValueOffset Offset => ValueOffset.None;

    public OffsetWords Turn => default;

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

    public Words2 Rows0(Words4 a, Words4 b, OffsetWords turn) => ValueWords.TwoNibbles(a.X, b.X);

    public Words2 Rows1(Words4 a, Words4 b, OffsetWords turn) => ValueWords.TwoNibbles(a.X, b.X);

    public Words2 Rows2(Words4 a, Words4 b, OffsetWords turn) => ValueWords.TwoNibbles(a.X, b.X);

    public Words2 Rows3(Words4 a, Words4 b, OffsetWords turn) => ValueWords.TwoNibbles(a.X, b.X);

    public int Element(int load, int g, int tile, int half) => (16 * load) + g + (8 * half);
}

/// <summary>V3 values: in one load half of the 16 elements that a lane has of three words.</summary>
internal readonly struct V3Values : IValueTiles
{
    public TileArithmetic Arithmetic => TileArithmetic.Halves;

    public Scaling Scales => Scaling.Vector;

    public bool IsOfOpenPages => false;

    public ValueOffset Offset => ValueOffset.Level;

    public OffsetWords Turn => ValueWords.ThreeBitTables;

    public int Tiles => 4;

    public int LoadWords => 12;

    public float Step => 1f / 50.9f;

    public int Words(int width) => (width + 31) / 32 * 3;

    public int Loads(int width) => (width + 127) / 128 * 2;

    public int Groups(int width) => 0;

    public int GroupElements(int width) => width;

    public float Factor(int half) => 16777216f;

    public int FirstWord(int load) => 12 * (load >> 1);

    public int LaneWord(int g) => (3 * (g >> 1)) + (g & 1);

    public int LaneEnd(int g) => (3 * (g >> 1)) + 3;

    public Words4 Load(WordViews words, int at, int load) => ValueWords.ThreeBits(words, at, load & 1);

    public Words2 Rows0(Words4 a, Words4 b, OffsetWords turn) => ValueWords.ThreeBitLevels(Lane.Permute(a.X, b.X, 0x5140), turn);

    public Words2 Rows1(Words4 a, Words4 b, OffsetWords turn) => ValueWords.ThreeBitLevels(Lane.Permute(a.X, b.X, 0x5140) >>> 16, turn);

    public Words2 Rows2(Words4 a, Words4 b, OffsetWords turn) => ValueWords.ThreeBitLevels(Lane.Permute(a.Y, b.Y, 0x5140), turn);

    public Words2 Rows3(Words4 a, Words4 b, OffsetWords turn) => ValueWords.ThreeBitLevels(Lane.Permute(a.Y, b.Y, 0x5140) >>> 16, turn);

    public int Element(int load, int g, int tile, int half) => (128 * (load >> 1)) + (16 * g) + (8 * (load & 1)) + (tile < 2 ? 4 * tile : (4 * tile) - 7) + (2 * half);
}

/// <summary>V2 values: in one load half of a word of 16 elements.</summary>
internal readonly struct V2Values : IValueTiles
{
    public TileArithmetic Arithmetic => TileArithmetic.Halves;

    public Scaling Scales => Scaling.Vector;

    public bool IsOfOpenPages => false;

    public ValueOffset Offset => ValueOffset.Level;

    public OffsetWords Turn => ValueWords.TwoBitTables;

    public int Tiles => 4;

    public int LoadWords => 8;

    public float Step => 1f / 78.45f;

    public int Words(int width) => (width + 15) / 16;

    public int Loads(int width) => (width + 127) / 128 * 2;

    public int Groups(int width) => 0;

    public int GroupElements(int width) => width;

    public float Factor(int half) => 16777216f;

    public int FirstWord(int load) => 8 * (load >> 1);

    public int LaneWord(int g) => g;

    public int LaneEnd(int g) => g + 1;

    public Words4 Load(WordViews words, int at, int load) => ValueWords.TwoBits(words, at, load & 1);

    public Words2 Rows0(Words4 a, Words4 b, OffsetWords turn) => ValueWords.TwoBitLevels(ValueWords.EvenPairs(a, b), turn);

    public Words2 Rows1(Words4 a, Words4 b, OffsetWords turn) => ValueWords.TwoBitLevels(ValueWords.EvenPairs(a, b) >>> 16, turn);

    public Words2 Rows2(Words4 a, Words4 b, OffsetWords turn) => ValueWords.TwoBitLevels(ValueWords.OddPairs(a, b), turn);

    public Words2 Rows3(Words4 a, Words4 b, OffsetWords turn) => ValueWords.TwoBitLevels(ValueWords.OddPairs(a, b) >>> 16, turn);

    public int Element(int load, int g, int tile, int half) => (128 * (load >> 1)) + (16 * g) + (8 * (load & 1)) + (tile < 2 ? 4 * tile : (4 * tile) - 7) + (2 * half);
}
