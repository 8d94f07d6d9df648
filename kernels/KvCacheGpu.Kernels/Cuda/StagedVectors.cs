using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Vectors in shared memory. Element 16 lane + j lies at j * lanes + lane, so that the lanes of a warp are in different banks (<see cref="MoveDims.Stride"/>).
/// </summary>
internal static class StagedVectors
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(ArrayView<float> shared, int at, int lane, int lanes, Sixteen x)
    {
        Store(shared, at + lane, lanes, x.A);
        Store(shared, at + lane + (4 * lanes), lanes, x.B);
        Store(shared, at + lane + (8 * lanes), lanes, x.C);
        Store(shared, at + lane + (12 * lanes), lanes, x.D);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(ArrayView<float> shared, int at, int lanes, Four x)
    {
        shared[at] = x.X;
        shared[at + lanes] = x.Y;
        shared[at + (2 * lanes)] = x.Z;
        shared[at + (3 * lanes)] = x.W;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Sixteen Load(ArrayView<float> shared, int at, int lane, int lanes) => Sixteen.Of(
        Load(shared, at + lane, lanes),
        Load(shared, at + lane + (4 * lanes), lanes),
        Load(shared, at + lane + (8 * lanes), lanes),
        Load(shared, at + lane + (12 * lanes), lanes));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Four Load(ArrayView<float> shared, int at, int lanes) =>
        Four.Of(shared[at], shared[at + lanes], shared[at + (2 * lanes)], shared[at + (3 * lanes)]);

    // Elements 2 w and 2 w + 1 of a vector that is laid out as above.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Halves(ArrayView<float> vector, int w, int lanes)
    {
        int at = ((2 * w) & 15) * lanes + (w >> 3);
        return (int)(PortableMath.SaturatedHalf(vector[at]) | (PortableMath.SaturatedHalf(vector[at + lanes]) << 16));
    }
}
