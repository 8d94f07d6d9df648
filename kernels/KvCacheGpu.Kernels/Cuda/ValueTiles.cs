namespace KvCacheGpu.Kernels;

/// <summary>What is added to elements that would not be positive, so that they are subnormal binary16 numbers as they are: no conversion. Odd tokens enter as -p and their elements negated, so that offsets nearly cancel.</summary>
internal enum ValueOffset
{
    None,

    /// <summary>Bytes enter as v + 128 of even tokens and 127 - v of odd ones.</summary>
    Byte,

    /// <summary>Levels, whole numbers and a half, enter as 127.5 + v of even tokens and 127.5 - v of odd ones.</summary>
    Level,
}

/// <summary>Words that elements with an offset are turned by: what bytes are inverted by (X), or the levels of codes (X; of three bits, those of the upper codes in Y). With both exchanged odd tokens are.</summary>
internal struct OffsetWords
{
    public int X;
    public int Y;

    /// <summary>True if levels are wanted as they are, with no offset.</summary>
    public bool IsPlain;

    public readonly OffsetWords Odd => Of(Y, X);

    public static OffsetWords Of(int x, int y)
    {
        OffsetWords words = default;
        words.X = x;
        words.Y = y;
        return words;
    }
}

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

    ValueOffset Offset { get; }

    /// <summary>What rows of even tokens are turned by, where they have an offset.</summary>
    OffsetWords Turn { get; }

    /// <summary>Tiles of 16 elements that a load of a token gives: 1, 2 or 4.</summary>
    int Tiles { get; }

    /// <summary>Words of a load, over all lanes.</summary>
    int LoadWords { get; }

    /// <summary>What levels are divided by: they are stored times it. 1 for other formats.</summary>
    float Step { get; }

    /// <summary>Words of a value of a width.</summary>
    int Words(int width);

    /// <summary>Loads of a value of a width.</summary>
    int Loads(int width);

    /// <summary>Groups of elements with a scale and a minimum of their own; 0 where there are none.</summary>
    int Groups(int width);

    /// <summary>Elements of such a group.</summary>
    int GroupElements(int width);

    /// <summary>What sums of rows g (0) and g + 8 (1) are multiplied by, as operands are smaller than elements.</summary>
    float Factor(int half);

    /// <summary>The first word of a load.</summary>
    int FirstWord(int load);

    /// <summary>The first word of lane g in a load.</summary>
    int LaneWord(int g);

    /// <summary>The word behind the last one of lane g.</summary>
    int LaneEnd(int g);

    /// <summary>A lane's words of one token.</summary>
    Words4 Load(WordViews words, int at, int load);

    /// <summary>
    /// Rows g (X) and g + 8 (Y) of the first tile of a load: the element of token a in the low half, of token b in the high one. A method for each tile, as ILGPU carries every
    /// question about a constant through all its passes. <paramref name="turn"/>: what elements with an offset are turned by.
    /// </summary>
    Words2 Rows0(Words4 a, Words4 b, OffsetWords turn);

    /// <summary>The second tile.</summary>
    Words2 Rows1(Words4 a, Words4 b, OffsetWords turn);

    /// <summary>The third tile.</summary>
    Words2 Rows2(Words4 a, Words4 b, OffsetWords turn);

    /// <summary>The fourth tile.</summary>
    Words2 Rows3(Words4 a, Words4 b, OffsetWords turn);

    /// <summary>The element that a row holds: g, or g + 8 for <paramref name="half"/> 1.</summary>
    int Element(int load, int g, int tile, int half);
}
