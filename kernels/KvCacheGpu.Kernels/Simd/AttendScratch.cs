namespace KvCacheGpu.Kernels;

/// <summary>
/// One worker's memory for a tile of queries, in floats:
/// <code>
///   queries    [variants][tileQueries/4][queryStride][4]   per form that a page class reads with; zero from the key width on
///   outputs    [bases][tileQueries][outputStride]          plain, and rotated where sealed values are
///   turned     [4][outputStride]                        outputs on their way back to the plain basis
///   logits     [8][logitStride]                         of one block of queries, or two
///   weights    [8][logitStride]                         of one group of elements, where groups have scales
///   pairs      int16[8][logitStride]                    weights in whole numbers, and their steps and rests, f32[2][8]; where attention is fast
///   queryPairs int32[classes][tileQueries/4][..]        queries in whole numbers (<see cref="PairQueries"/>); the same
///   scales     [planes][logitStride]                    the page's key scales, then its value scales
///   mean       [queryStride]                            the page's
///   keys       [queryStride][logitStride]               a page's, expanded; where a class is read so
///   values     [pageTokens][outputStride]               the same
///   softmaxes  [tileQueries/4]                             running softmaxes, each of four queries
///   tokens     [tileQueries]                               whose queries they are
/// </code>
/// </summary>
internal sealed unsafe class AttendScratch
{

    // Words of three-bit formats hold 32 elements, the last of them padded.
    private const int QueryMultiple = 32;

    // For each of two blocks of four queries: steps, and what rounding took.
    private const int StepFloats = 16;

    private readonly int _queryStride;

    public AttendScratch(KernelShape shape, int variants, int tileQueries, float* memory)
    {
        KvGeometry g = shape.Geometry;
        _queryStride = RoundUp(g.KeyWidth, QueryMultiple);
        TileQueries = tileQueries;
        OutputStride = StrideOf(g.ValueWidth);
        LogitStride = StrideOf(g.PageTokens);
        Queries = memory;
        Outputs = Queries + (variants * tileQueries * _queryStride);
        Turned = Outputs + (2 * tileQueries * OutputStride);
        Logits = Turned + (4 * OutputStride);
        Weights = Logits + (8 * LogitStride);
        Pairs = (ushort*)(Weights + (8 * LogitStride));
        PairSteps = (float*)(Pairs + (8 * LogitStride));
        QueryPairs = (int*)(PairSteps + StepFloats);
        KeyScales = Weights + (8 * LogitStride) + PairFloats(shape, tileQueries);
        ValueScales = KeyScales + (KeyPlanes(shape) * LogitStride);
        Mean = ValueScales + (ValuePlanes(shape) * LogitStride);
        Keys = Mean + StrideOf(g.KeyWidth);
        Values = Keys + (IsExpanding(shape) ? (long)_queryStride * LogitStride : 0);
        Softmaxes = (SoftmaxState*)(Values + (IsExpanding(shape) ? (long)g.PageTokens * OutputStride : 0));
        TokenOf = (int*)(Softmaxes + (tileQueries / 4));
    }

    public int TileQueries { get; }

    public int OutputStride { get; }

    public int LogitStride { get; }

    public float* Queries { get; }

    public float* Outputs { get; }

    public float* Turned { get; }

    public float* Logits { get; }

    public float* Weights { get; }

    public ushort* Pairs { get; }

    public float* PairSteps { get; }

    public int* QueryPairs { get; }

    public float* KeyScales { get; }

    public float* ValueScales { get; }

    public float* Mean { get; }

    public float* Keys { get; }

    public float* Values { get; }

    public SoftmaxState* Softmaxes { get; }

    /// <summary>The token, among the sequence's, that each query of the tile belongs to; where the last block is not full, the last query's is repeated.</summary>
    public int* TokenOf { get; }

    /// <summary>Factor of all weights: 1, or less where values are so large that their sum would overflow.</summary>
    public float Shrink { get; set; } = 1f;

    /// <summary>The forms in which the tile's queries are there, bit v for variant v.</summary>
    public int Prepared { get; set; }

    /// <summary>The page classes for which the tile's queries are there as whole numbers, bit c for class c.</summary>
    public int PreparedPairs { get; set; }

    /// <summary>For a tile's plain outputs and its rotated ones: true once they hold anything.</summary>
    public bool[] IsTouched { get; } = new bool[2];

    public static int StrideOf(int elements) => RoundUp(elements, 64);

    public static long FloatsFor(KernelShape shape, int variants, int tileQueries)
    {
        KvGeometry g = shape.Geometry;
        int queryStride = RoundUp(g.KeyWidth, QueryMultiple);
        long floats = (long)tileQueries * ((variants * queryStride) + (2 * StrideOf(g.ValueWidth)));
        floats += (4L * StrideOf(g.ValueWidth)) + ((16L + KeyPlanes(shape) + ValuePlanes(shape)) * StrideOf(g.PageTokens)) + StrideOf(g.KeyWidth);
        floats += IsExpanding(shape) ? ((long)queryStride * StrideOf(g.PageTokens)) + ((long)g.PageTokens * StrideOf(g.ValueWidth)) : 0;
        floats += PairFloats(shape, tileQueries);
        floats += (tileQueries / 4 * sizeof(SoftmaxState) / sizeof(float)) + tileQueries;
        return (floats + 31) & ~31L;
    }

    public float* QueryBlock(int variant, int block) => Queries + (((variant * TileQueries) + (4 * block)) * _queryStride);

    /// <summary>The queries of a block in whole numbers, as a page class reads them.</summary>
    public PairQueries PairsOf(int pageClass, int block)
    {
        int words = PairQueries.WordsFor(_queryStride);
        int* at = QueryPairs + (((pageClass * TileQueries / 4) + block) * words);
        return new PairQueries(at, (float*)(at + words - 8));
    }

    public float* OutputOf(int rotated, int query) => Outputs + (((rotated * TileQueries) + query) * OutputStride);

    // Weights of four queries as 16-bit numbers, their steps, and the tile's queries for each class.
    private static int PairFloats(KernelShape shape, int tileQueries)
    {
        if (shape.Precision == KvAttentionPrecision.Exact)
        {
            return 0;
        }

        int queries = shape.Classes.Count * tileQueries / 4 * PairQueries.WordsFor(RoundUp(shape.Geometry.KeyWidth, QueryMultiple));
        return RoundUp((4 * StrideOf(shape.Geometry.PageTokens)) + StepFloats + queries, 64);
    }

    private static int KeyPlanes(KernelShape shape) => shape.Classes.Max(c => c.KeyScalePlanes);

    private static int ValuePlanes(KernelShape shape) => shape.Classes.Max(c => c.ValueScalePlanes);

    private static bool IsExpanding(KernelShape shape) => shape.Classes.Any(c =>
        c.KeyFormat is not (<= PageFormat.I8 or PageFormat.FP8) || c.ValueFormat is not (<= PageFormat.I8 or PageFormat.FP8));

    private static int RoundUp(int elements, int multiple) => (elements + multiple - 1) / multiple * multiple;
}
