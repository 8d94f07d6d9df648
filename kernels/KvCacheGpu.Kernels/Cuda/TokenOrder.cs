namespace KvCacheGpu.Kernels;

/// <summary>
/// Which tokens of 64 are the rows of which tile of 16. Row g of a tile is a lane's even token, row g + 8 the next one:
/// <code>
///   pairs: tile i has the tokens 16 i + 2 g and 16 i + 2 g + 1
///   quads: tiles 2 h and 2 h + 1 have the tokens 32 h + 4 g + 0, 1 and 2, 3: four words of keys and four scales are one load each. Where words of keys are operands as they lie
///          it cannot be, as two loads make one operand there.
/// </code>
/// </summary>
internal static class TokenOrder
{
    /// <summary>Tokens from lane g's to those of lane g + 1.</summary>
    public static int Lane<TShape>()
        where TShape : struct, ITensorShape => default(TShape).IsQuads ? 4 : 2;

    /// <summary>The first token of a tile for lane 0.</summary>
    public static int Tile<TShape>(int tile)
        where TShape : struct, ITensorShape => default(TShape).IsQuads ? (32 * (tile >> 1)) + (2 * (tile & 1)) : 16 * tile;

    /// <summary>The same, to read there. Tiles behind a short page read an earlier one again; their tokens are masked.</summary>
    public static int ReadTile<TShape>(int tile)
        where TShape : struct, ITensorShape => Tile<TShape>(tile) < default(TShape).PageTokens ? Tile<TShape>(tile) : Tile<TShape>(default(TShape).IsQuads ? tile & 1 : 0);
}
