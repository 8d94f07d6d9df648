namespace KvCacheGpu.Kernels;

/// <summary>
/// One worker's memory for a tile of query rows, in floats:
/// <code>
///   queries    [classes][tileRows/4][keyWidth][4]   plain, and rotated where sealed keys are
///   factors    [classes][tileRows]                  raw logit to units of log2
///   outputs    [bases][tileRows][outputStride]      plain, and rotated where sealed values are
///   turned     [valueWidth][4]                      four outputs on their way back to the plain basis
///   logits     [4][logitStride]
///   scales     [2][logitStride]                     the page's key and value scales
///   rows       [tileRows/4]                         running softmaxes
/// </code>
/// </summary>
internal sealed unsafe class AttendScratch
{
    public const int MaxTileRows = 32;

    private readonly int _keyWidth;

    public AttendScratch(KernelShape shape, int tileRows, float* memory)
    {
        KvGeometry g = shape.Geometry;
        _keyWidth = g.KeyWidth;
        TileRows = tileRows;
        OutputStride = StrideOf(g.ValueWidth);
        LogitStride = StrideOf(g.PageTokens);
        Queries = memory;
        Factors = Queries + (2 * tileRows * g.KeyWidth);
        Outputs = Factors + (2 * tileRows);
        Turned = Outputs + (2 * tileRows * OutputStride);
        Logits = Turned + (4 * g.ValueWidth);
        Scales = Logits + (4 * LogitStride);
        Rows = (SoftmaxRows*)(Scales + (2 * LogitStride));
    }

    public int TileRows { get; }

    public int OutputStride { get; }

    public int LogitStride { get; }

    public float* Queries { get; }

    public float* Factors { get; }

    public float* Outputs { get; }

    public float* Turned { get; }

    public float* Logits { get; }

    public float* Scales { get; }

    public SoftmaxRows* Rows { get; }

    public static int StrideOf(int elements) => (elements + 31) & ~31;

    public static long FloatsFor(KernelShape shape, int tileRows)
    {
        KvGeometry g = shape.Geometry;
        long floats = 2L * tileRows * (g.KeyWidth + 1 + StrideOf(g.ValueWidth));
        floats += (4L * g.ValueWidth) + (6L * StrideOf(g.PageTokens)) + (tileRows / 4 * sizeof(SoftmaxRows) / sizeof(float));
        return (floats + 31) & ~31L;
    }

    public float* QueryBlock(int pageClass, int block) => Queries + (((pageClass * TileRows) + (4 * block)) * _keyWidth);

    public float* OutputRow(int rotated, int row) => Outputs + (((rotated * TileRows) + row) * OutputStride);
}
