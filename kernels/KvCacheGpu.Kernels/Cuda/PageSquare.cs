using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>
/// What <see cref="SquareKernel"/> computes, by the group that moves the page: it reads the elements once for both. Rotations keep norms, and none of the formats that
/// these kernels read is under key scales.
/// </summary>
internal static class PageSquare
{
    /// <summary>Shared floats: the sum of each warp, of eight at most.</summary>
    public const int SharedFloats = 8;

    /// <summary>A thread's sum with the squares of sixteen elements more.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Add(float sum, Sixteen x) => Add(Add(Add(Add(sum, x.A), x.B), x.C), x.D);

    /// <summary>Leaves the sum of each warp in shared memory. Every thread of the group calls, and there is a barrier before <see cref="Write"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Share(ArrayView<float> ofWarps, float sum)
    {
        for (int mask = 1; mask < 32; mask <<= 1)
        {
            sum += Warp.ShuffleXor(sum, mask);
        }

        if ((Group.IdxX & 31) == 0)
        {
            ofWarps[Group.IdxX >> 5] = sum;
        }
    }

    /// <summary>The mean over the page's tokens -> its scores, where the move names them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Write(ArrayView<int> arena, ArrayView<int> moves, int move, ArrayView<float> ofWarps, int word)
    {
        int unit = moves[move + TranscodeKernels.ScoreUnit];
        if (Group.IdxX == 0 && unit != 0)
        {
            float sum = 0f;
            for (int warp = 0; warp < (Group.DimX >> 5); warp++)
            {
                sum += ofWarps[warp];
            }

            SquareKernel.Store(arena, unit, moves[move + TranscodeKernels.ScoreUnit + 1] + word, sum / moves[move + 2]);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Add(float sum, Four x) => Lane.Fma(x.X, x.X, Lane.Fma(x.Y, x.Y, Lane.Fma(x.Z, x.Z, Lane.Fma(x.W, x.W, sum))));
}
