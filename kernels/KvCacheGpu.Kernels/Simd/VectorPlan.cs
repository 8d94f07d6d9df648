namespace KvCacheGpu.Kernels;

/// <summary>The tables of a <see cref="VectorPlan"/>, or those of a row under its key scales.</summary>
internal readonly unsafe struct RotationTables(float* memory, int period)
{
    /// <summary>False for the default value, which has no tables.</summary>
    public bool AreThere => Signs != null;

    public float* Signs { get; } = memory;

    public float* Scaled { get; } = memory + period;

    public float* Normed { get; } = memory + (2 * period);
}

/// <summary>
/// Tables for the rotation of vectors of one width. Each vector is padded with zeros to a multiple of 16 elements, so that vectors one after
/// another are a sequence of whole Hadamard blocks; tables repeat with a period that whole registers divide:
/// <code>
///   signs      f32[period]   +-1, 1 in the padding
///   scaled     f32[period]   signs * 2^112: widens F16 in the same multiplication
///   normed     f32[period]   signs * norm: the last step of the way back
/// </code>
/// </summary>
internal sealed unsafe class VectorPlan
{
    private const int Lanes = 16;
    private const int ChunkFloats = 128;

    public VectorPlan(int width, ulong seed, float* memory)
    {
        (Width, Stride, Block, Norm, Period) = (width, StrideOf(width), Rotation.BlockSize(width), Rotation.Norm(width), PeriodOf(width));
        Tables = new RotationTables(memory, Period);
        float[] signs = Rotation.Signs(width, seed);
        for (int i = 0; i < Period; i++)
        {
            int element = i % Stride;
            Signs[i] = element < width ? signs[element] : 1f;
            Scaled[i] = Signs[i] * SimdF16.Factor;
            Normed[i] = Signs[i] * Norm;
        }
    }

    public int Width { get; }

    /// <summary>Floats from vector to vector.</summary>
    public int Stride { get; }

    /// <summary>Elements of a Hadamard block.</summary>
    public int Block { get; }

    public float Norm { get; }

    public int Period { get; }

    public RotationTables Tables { get; }

    public float* Signs => Tables.Signs;

    public float* Scaled => Tables.Scaled;

    public float* Normed => Tables.Normed;

    public static int StrideOf(int width) => (width + Lanes - 1) & -Lanes;

    public static int FloatsFor(int width) => 3 * PeriodOf(width);

    // The least common multiple of the stride, a multiple of 16, and the chunk, a power of two.
    private static int PeriodOf(int width) => StrideOf(width) * ChunkFloats / Math.Min(ChunkFloats, StrideOf(width) & -StrideOf(width));
}
