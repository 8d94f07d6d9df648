using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>Mean square norms of the pages that are written from, for the scores. One group per move, one part (keys or values) a launch.</summary>
internal static class SquareKernel
{
    /// <summary>Shared floats that a group of <paramref name="threads"/> needs: x[width], levels[16], sums[DimX].</summary>
    public static int SharedFloats(int width, int threads) => width + LevelTable.Size + threads;

    /// <summary>
    /// Pages of a class pair -> word <paramref name="score"/> of their scores, wherever those lie. Rotations keep norms, key scales do not: keys under them come back to the plain basis.
    /// </summary>
    public static void Square<TCodec>(ArrayView<int> arena, ArrayView<int> moves, int pair, int score, PartDims part, ArrayView<float> signs, float norm)
        where TCodec : struct, IPortableCodec
    {
        int move = Grid.IdxX * TranscodeKernels.MoveWords;
        int unit = moves[move + TranscodeKernels.ScoreUnit];
        if (moves[move + 3] != pair || unit == 0)
        {
            return;
        }

        ArrayView<float> shared = SharedMemory.GetDynamic<float>();
        ArrayView<float> x = shared.SubView(0, part.Width);
        ArrayView<float> levels = shared.SubView(part.Width, LevelTable.Size);
        ArrayView<float> sums = shared.SubView(part.Width + LevelTable.Size, Group.DimX);
        if (default(TCodec).LevelBits > 0)
        {
            LevelTable.Fill(levels, default(TCodec).LevelBits);
            Group.Barrier();
        }

        ArrayView<int> page = AppendKernel.Page(arena, moves[move]);
        int tokens = moves[move + 2];
        float sum = 0f;
        for (int t = 0; t < tokens; t++)
        {
            TokenCodec.Load<TCodec>(page, part, t, x, levels);
            if (default(TCodec).Scales == Scaling.Gain && moves[move + TranscodeKernels.Signs] != 0)
            {
                SharedVector.Undo(x, part.Width, signs, moves[move + TranscodeKernels.Signs] * part.Width, norm);
            }

            for (int i = Group.IdxX; i < part.Width; i += Group.DimX)
            {
                sum += x[i] * x[i];
            }

            Group.Barrier();
        }

        sums[Group.IdxX] = sum;
        SharedVector.Sum(sums, 1);
        if (Group.IdxX == 0)
        {
            Store(arena, unit, moves[move + TranscodeKernels.ScoreUnit + 1] + score, sums[0] / tokens);
        }
    }

    /// <summary>Writes a mean. Squares of huge numbers are beyond binary32 and count as its largest.</summary>
    public static void Store(ArrayView<int> arena, int unit, int word, float mean) =>
        AppendKernel.Page(arena, unit)[word] = (int)Interop.FloatAsInt(mean > float.MaxValue ? float.MaxValue : mean);
}
