namespace KvCacheGpu.Kernels;

/// <summary>
/// One worker's memory for pages being written, in floats; L are the lanes, W the wider of key and value:
/// <code>
///   vectors     [P][stride W]    keys of a page, or the values of L tokens, as floats
///   words    [L][stride W]    keys' words, transposed
///   packed   [L][stride W]    words on their way out
///   sums     [3][stride W]    over tokens: the digest's sum, mean and squares
///   fold     [2 * 1024]       a vector being added up
///   parts    [2][L][L]        L vectors folded to one register each
///   factors  [2][L]           of L tokens
///   codes    [1024 bytes]     of one vector
///   scales   [3][period]      tables as VectorPlan's, under a row's key scales; where some class has keys in a T format
/// </code>
/// </summary>
internal readonly unsafe struct EncodeScratch
{
    private const int MaxLanes = 16;
    private const int FoldFloats = 2048;
    private const int CodeFloats = 256;

    // Transforms write eight registers at a time.
    private const int Slack = 128;

    public EncodeScratch(KernelShape shape, float* memory)
    {
        (long stride, int vectors) = Dimensions(shape);
        Vectors = memory;
        Words = (int*)(Vectors + (vectors * stride) + Slack);
        Packed = Words + (MaxLanes * stride);
        Sums = (float*)(Packed + (MaxLanes * stride));
        Mean = Sums + stride;
        Squares = Mean + stride;
        Fold = Squares + stride;
        Parts = Fold + FoldFloats;
        Turned = Parts + (MaxLanes * MaxLanes);
        Factors = Turned + (MaxLanes * MaxLanes);
        Offsets = Factors + MaxLanes;
        Codes = (byte*)(Offsets + MaxLanes);
        Scales = Offsets + MaxLanes + CodeFloats;
    }

    public float* Vectors { get; }

    public int* Words { get; }

    public int* Packed { get; }

    public float* Sums { get; }

    public float* Mean { get; }

    public float* Squares { get; }

    public float* Fold { get; }

    public float* Parts { get; }

    public float* Turned { get; }

    public float* Factors { get; }

    public float* Offsets { get; }

    public byte* Codes { get; }

    public float* Scales { get; }

    public static long FloatsFor(KernelShape shape)
    {
        (long stride, int vectors) = Dimensions(shape);
        return ((vectors + (2 * MaxLanes) + 3) * stride) + Slack + FoldFloats + (2 * MaxLanes * MaxLanes) + (2 * MaxLanes) + CodeFloats
            + (shape.ScalesKeys ? VectorPlan.FloatsFor(shape.Geometry.KeyWidth) : 0);
    }

    private static (long Stride, int Vectors) Dimensions(KernelShape shape) =>
        (VectorPlan.StrideOf(Math.Max(shape.Geometry.KeyWidth, shape.Geometry.ValueWidth)), (shape.Geometry.PageTokens + MaxLanes - 1) & -MaxLanes);
}
