namespace KvCacheGpu.Kernels;

/// <summary>
/// How the values of a format become A operands of mma: 16 elements by 16 tokens, so that a word of an operand holds one element of two tokens.
/// </summary>
internal interface IValueTiles
{
    TileArithmetic Arithmetic { get; }

    /// <summary>How values are scaled.</summary>
    Scaling Scales { get; }

    /// <summary>True if open pages have this format: behind their last token lies anything, also NaN.</summary>
    bool IsOfOpenPages { get; }

    /// <summary>Tiles of 16 elements that a load of a token gives: 1, 2 or 4.</summary>
    int Tiles { get; }

    /// <summary>Words of a value of a width.</summary>
    int Words(int width);

    /// <summary>Words from a load to the next.</summary>
    int LoadWords { get; }

    /// <summary>Words of a load that a lane takes.</summary>
    int LaneWords { get; }

    /// <summary>What levels are divided by: they are stored times it. 1 for other formats.</summary>
    float Step { get; }

    /// <summary>True if bytes enter as v + 128 of even tokens and 127 - v of odd ones.</summary>
    bool IsOffset { get; }

    /// <summary>Groups of elements with a scale and a minimum of their own; 0 where there are none.</summary>
    int Groups(int width);

    /// <summary>Elements of such a group.</summary>
    int GroupElements(int width);

    /// <summary>What sums of rows g (0) and g + 8 (1) are multiplied by, as operands are subnormal numbers.</summary>
    float Factor(int half);

    /// <summary>The first word of lane g in a load.</summary>
    int LaneWord(int g);

    /// <summary>A lane's words of one token.</summary>
    Words4 Load(WordViews words, int at);

    /// <summary>Rows g (X) and g + 8 (Y) of a tile: the element of token a in the low half, of token b in the high one. Odd: tokens of rows 8 .. 15 of P.</summary>
    Words2 Rows(Words4 a, Words4 b, int tile, bool isOdd);

    /// <summary>The element that a row holds: g, or g + 8 for <paramref name="half"/> 1.</summary>
    int Element(int load, int g, int tile, int half);
}

/// <summary>F16 values, 8 elements a lane.</summary>
internal readonly struct F16Values4 : IValueTiles
{
    public TileArithmetic Arithmetic => TileArithmetic.Halves;

    public Scaling Scales => Scaling.None;

    public bool IsOfOpenPages => true;

    public int Tiles => 4;

    public int Words(int width) => width / 2;

    public int LoadWords => 32;

    public int LaneWords => 4;

    public float Step => 1f;

    public bool IsOffset => false;

    public int Groups(int width) => 0;

    public int GroupElements(int width) => width;

    public float Factor(int half) => 1f;

    public int LaneWord(int g) => 4 * g;

    public Words4 Load(WordViews words, int at) => words.Four[at / 4];

    public Words2 Rows(Words4 a, Words4 b, int tile, bool isOdd) =>
        ValueOperands.Pair(tile == 0 ? a.X : tile == 1 ? a.Y : tile == 2 ? a.Z : a.W, tile == 0 ? b.X : tile == 1 ? b.Y : tile == 2 ? b.Z : b.W);

    public int Element(int load, int g, int tile, int half) => (64 * load) + (8 * g) + (2 * tile) + half;
}

internal static class ValueOperands
{
    /// <summary>Two words of two elements each, of two tokens, to two of one element of both.</summary>
    public static Words2 Pair(int a, int b)
    {
        Words2 rows = default;
        rows.X = Lane.Permute(a, b, 0x5410);
        rows.Y = Lane.Permute(a, b, 0x7632);
        return rows;
    }
}
