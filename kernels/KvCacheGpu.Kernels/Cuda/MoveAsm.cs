using System.Runtime.CompilerServices;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Instructions that kernels which move pages need beside those of <see cref="Lane"/>. All of them are exact, or rounded to nearest even: the results are the portable
/// kernels' to the bit. <c>.rn</c> also keeps ptxas from fusing a product with the addition that follows.
/// </summary>
internal static class MoveAsm
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Mul(float a, float b)
    {
        CudaAsm.Emit("mul.rn.f32 %0, %1, %2;", out float product, a, b);
        return product;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Add(float a, float b)
    {
        CudaAsm.Emit("add.rn.f32 %0, %1, %2;", out float sum, a, b);
        return sum;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Min(float a, float b)
    {
        CudaAsm.Emit("min.f32 %0, %1, %2;", out float result, a, b);
        return result;
    }

    /// <summary>The sum of four products of bytes, and <paramref name="sum"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Dot(int a, int b, int sum)
    {
        CudaAsm.Emit("dp4a.u32.u32 %0, %1, %2, %3;", out int result, a, b, sum);
        return result;
    }
}
