using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.Benchmarks;

/// <summary>The rate of fused products that the processor's widest vectors reach without memory: the limit of what arithmetic binds.</summary>
internal sealed class ProductRate(WorkerPool pool) : ParallelWork
{
    private const int Loops = 200_000;
    private const int Sums = 12;

    private readonly float[] _results = new float[16 * pool.Workers];

    /// <summary>Computes for a few milliseconds on all threads.</summary>
    /// <returns>Operations: two for each product and its addition.</returns>
    public double Run()
    {
        pool.Run(this, pool.Workers);
        return 2.0 * Loops * Sums * (Vector512.IsHardwareAccelerated ? Vector512<float>.Count : Vector256<float>.Count) * pool.Workers;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public override void Do(int item, int worker) =>
        _results[16 * item] = Vector512.IsHardwareAccelerated ? Wide(1.0000001f + item) : Narrow(1.0000001f + item);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float Wide(float x)
    {
        Vector512<float> a = Vector512.Create(x), b = a, c = a, d = a, e = a, f = a, g = a, h = a, i = a, j = a, k = a, l = a, y = Vector512.Create(1e-9f), z = Vector512.Create(0.999f);
        for (int n = 0; n < Loops; n++)
        {
            a = Vector512.FusedMultiplyAdd(a, z, y);
            b = Vector512.FusedMultiplyAdd(b, z, y);
            c = Vector512.FusedMultiplyAdd(c, z, y);
            d = Vector512.FusedMultiplyAdd(d, z, y);
            e = Vector512.FusedMultiplyAdd(e, z, y);
            f = Vector512.FusedMultiplyAdd(f, z, y);
            g = Vector512.FusedMultiplyAdd(g, z, y);
            h = Vector512.FusedMultiplyAdd(h, z, y);
            i = Vector512.FusedMultiplyAdd(i, z, y);
            j = Vector512.FusedMultiplyAdd(j, z, y);
            k = Vector512.FusedMultiplyAdd(k, z, y);
            l = Vector512.FusedMultiplyAdd(l, z, y);
        }

        return Vector512.Sum(a + b + c + d + e + f + g + h + i + j + k + l);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float Narrow(float x)
    {
        Vector256<float> a = Vector256.Create(x), b = a, c = a, d = a, e = a, f = a, g = a, h = a, i = a, j = a, k = a, l = a, y = Vector256.Create(1e-9f), z = Vector256.Create(0.999f);
        for (int n = 0; n < Loops; n++)
        {
            a = Vector256.FusedMultiplyAdd(a, z, y);
            b = Vector256.FusedMultiplyAdd(b, z, y);
            c = Vector256.FusedMultiplyAdd(c, z, y);
            d = Vector256.FusedMultiplyAdd(d, z, y);
            e = Vector256.FusedMultiplyAdd(e, z, y);
            f = Vector256.FusedMultiplyAdd(f, z, y);
            g = Vector256.FusedMultiplyAdd(g, z, y);
            h = Vector256.FusedMultiplyAdd(h, z, y);
            i = Vector256.FusedMultiplyAdd(i, z, y);
            j = Vector256.FusedMultiplyAdd(j, z, y);
            k = Vector256.FusedMultiplyAdd(k, z, y);
            l = Vector256.FusedMultiplyAdd(l, z, y);
        }

        return Vector256.Sum(a + b + c + d + e + f + g + h + i + j + k + l);
    }
}
