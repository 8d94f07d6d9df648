using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace KvCacheGpu.Kernels;

/// <summary>
/// <see cref="Rotation"/> of four vectors at once, lying f32[width][4]: every butterfly is one vector operation, without shuffles.
/// </summary>
internal static unsafe class QueryRotation
{
    /// <summary>x' = H D factor x.</summary>
    /// <param name="from">The vectors.</param>
    /// <param name="factor">What they are multiplied by first.</param>
    /// <param name="width">Elements of each.</param>
    /// <param name="signs">D.</param>
    /// <param name="to">Receives the rotated vectors.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Apply(float* from, float factor, int width, float* signs, float* to)
    {
        Scale(from, factor, width, signs, to);
        Transform(to, width);
    }

    // Two products: that of factor and sign may be subnormal.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Scale(float* from, float factor, int width, float* signs, float* to)
    {
        Vector128<float> all = Vector128.Create(factor);
        for (int i = 0; i < width; i++, from += 4, to += 4)
        {
            (Vector128.Load(from) * all * Vector128.Create(signs[i])).Store(to);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Transform(float* queries, int width)
    {
        int block = Rotation.BlockSize(width);
        for (int half = 1; half < block; half *= 2)
        {
            for (int start = 0; start < width; start += 2 * half)
            {
                float* a = queries + (4 * start);
                float* b = a + (4 * half);
                for (int i = 0; i < 4 * half; i += 4)
                {
                    Vector128<float> x = Vector128.Load(a + i), y = Vector128.Load(b + i);
                    (x + y).Store(a + i);
                    (x - y).Store(b + i);
                }
            }
        }

        Vector128<float> norm = Vector128.Create(Rotation.Norm(width));
        for (int i = 0; i < 4 * width; i += 4)
        {
            (Vector128.Load(queries + i) * norm).Store(queries + i);
        }
    }
}
