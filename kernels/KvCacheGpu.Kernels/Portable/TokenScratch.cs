using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>
/// The shared memory of a group that writes pages token by token.
/// <code>
/// x[width]   the vector          y[width]   squares, minima        z[width]  maxima, reciprocals      codes[width] (int)
/// red[DimX]  of a reduction      scales[planes] (int)  of two tokens     source[16]  target[16]  levels      boundaries[16]
/// </code>
/// </summary>
internal readonly struct TokenScratch
{
    public readonly ArrayView<float> X;
    public readonly ArrayView<float> Y;
    public readonly ArrayView<float> Z;
    public readonly ArrayView<int> Codes;
    public readonly ArrayView<float> Red;
    public readonly ArrayView<int> Scales;
    public readonly ArrayView<float> SourceLevels;
    public readonly ArrayView<float> TargetLevels;
    public readonly ArrayView<float> Boundaries;

    public TokenScratch(ArrayView<float> shared, int width, int planes)
    {
        X = shared.SubView(0, width);
        Y = shared.SubView(width, width);
        Z = shared.SubView(2 * width, width);
        Codes = shared.SubView(3 * width, width).Cast<int>();
        int at = 4 * width;
        Red = shared.SubView(at, Group.DimX);
        at += Group.DimX;
        Scales = shared.SubView(at, planes).Cast<int>();
        at += planes;
        SourceLevels = shared.SubView(at, LevelTable.Size);
        TargetLevels = shared.SubView(at + LevelTable.Size, LevelTable.Size);
        Boundaries = shared.SubView(at + (2 * LevelTable.Size), LevelTable.Size);
    }

    /// <summary>Shared floats that a group of <paramref name="threads"/> needs.</summary>
    public static int Floats(int width, int planes, int threads) => (4 * width) + threads + (3 * LevelTable.Size) + planes;

    /// <summary>Level tables of both formats. The caller synchronises.</summary>
    public void Fill<TSource, TTarget>()
        where TSource : struct, IPortableCodec
        where TTarget : struct, IPortableCodec
    {
        if (default(TSource).LevelBits > 0)
        {
            LevelTable.Fill(SourceLevels, default(TSource).LevelBits);
        }

        if (default(TTarget).LevelBits > 0)
        {
            LevelTable.Fill(TargetLevels, default(TTarget).LevelBits);
            LevelTable.FillBoundaries(Boundaries, default(TTarget).LevelBits);
        }
    }
}
