namespace KvCacheGpu.Kernels;

/// <summary>
/// One worker's memory for a tile of query rows, in floats:
/// <code>
///   queries    [variants][tileRows/4][queryStride][4]   per (basis, factor) that a page class reads with; zero from the key width on
///   outputs    [bases][tileRows][outputStride]          plain, and rotated where sealed values are
///   turned     [4][outputStride]                        outputs on their way back to the plain basis
///   logits     [4][logitStride]
///   weights    [4][logitStride]                         of one group of elements, where groups have scales
///   scales     [planes][logitStride]                    the page's key scales, then its value scales
///   mean       [queryStride]                            the page's
///   keys       [queryStride][logitStride]               a page's, expanded; where a class is read so
///   values     [pageTokens][outputStride]               the same
///   rows       [tileRows/4]                             running softmaxes
///   tokens     [tileRows]                               whose rows they are
/// </code>
/// </summary>
internal sealed unsafe class AttendScratch
{
    public const int MaxTileRows = 32;

    // Words of three-bit formats hold 32 elements, the last of them padded.
    private const int QueryMultiple = 32;

    private readonly int _queryStride;

    public AttendScratch(KernelShape shape, int variants, int tileRows, float* memory)
    {
        KvGeometry g = shape.Geometry;
        _queryStride = RoundUp(g.KeyWidth, QueryMultiple);
        TileRows = tileRows;
        OutputStride = StrideOf(g.ValueWidth);
        LogitStride = StrideOf(g.PageTokens);
        Queries = memory;
        Outputs = Queries + (variants * tileRows * _queryStride);
        Turned = Outputs + (2 * tileRows * OutputStride);
        Logits = Turned + (4 * OutputStride);
        Weights = Logits + (4 * LogitStride);
        KeyScales = Weights + (4 * LogitStride);
        ValueScales = KeyScales + (KeyPlanes(shape) * LogitStride);
        Mean = ValueScales + (ValuePlanes(shape) * LogitStride);
        Keys = Mean + StrideOf(g.KeyWidth);
        Values = Keys + (IsExpanding(shape) ? (long)_queryStride * LogitStride : 0);
        Rows = (SoftmaxRows*)(Values + (IsExpanding(shape) ? (long)g.PageTokens * OutputStride : 0));
        TokenOf = (int*)(Rows + (tileRows / 4));
    }

    public int TileRows { get; }

    public int OutputStride { get; }

    public int LogitStride { get; }

    public float* Queries { get; }

    public float* Outputs { get; }

    public float* Turned { get; }

    public float* Logits { get; }

    public float* Weights { get; }

    public float* KeyScales { get; }

    public float* ValueScales { get; }

    public float* Mean { get; }

    public float* Keys { get; }

    public float* Values { get; }

    public SoftmaxRows* Rows { get; }

    /// <summary>The token, among the sequence's, that each row of the tile belongs to; the last real row's where rows fill up a block.</summary>
    public int* TokenOf { get; }

    /// <summary>What weights are multiplied by beside all else: 1, or less where values are so large that their sum would overflow.</summary>
    public float Shrink { get; set; } = 1f;

    /// <summary>Whether a tile's plain, and its rotated, outputs hold anything yet.</summary>
    public bool[] IsTouched { get; } = new bool[2];

    public static int StrideOf(int elements) => RoundUp(elements, 64);

    public static long FloatsFor(KernelShape shape, int variants, int tileRows)
    {
        KvGeometry g = shape.Geometry;
        int queryStride = RoundUp(g.KeyWidth, QueryMultiple);
        long floats = (long)tileRows * ((variants * queryStride) + (2 * StrideOf(g.ValueWidth)));
        floats += (4L * StrideOf(g.ValueWidth)) + ((8L + KeyPlanes(shape) + ValuePlanes(shape)) * StrideOf(g.PageTokens)) + StrideOf(g.KeyWidth);
        floats += IsExpanding(shape) ? ((long)queryStride * StrideOf(g.PageTokens)) + ((long)g.PageTokens * StrideOf(g.ValueWidth)) : 0;
        floats += (tileRows / 4 * sizeof(SoftmaxRows) / sizeof(float)) + tileRows;
        return (floats + 31) & ~31L;
    }

    public float* QueryBlock(int variant, int block) => Queries + (((variant * TileRows) + (4 * block)) * _queryStride);

    public float* OutputRow(int rotated, int row) => Outputs + (((rotated * TileRows) + row) * OutputStride);

    private static int KeyPlanes(KernelShape shape) => shape.Classes.Max(c => c.KeyScalePlanes);

    private static int ValuePlanes(KernelShape shape) => shape.Classes.Max(c => c.ValueScalePlanes);

    private static bool IsExpanding(KernelShape shape) => shape.Classes.Any(c =>
        c.KeyFormat is not (<= PageFormat.I8 or PageFormat.FP8) || c.ValueFormat is not (<= PageFormat.I8 or PageFormat.FP8));

    private static int RoundUp(int elements, int multiple) => (elements + multiple - 1) / multiple * multiple;
}
