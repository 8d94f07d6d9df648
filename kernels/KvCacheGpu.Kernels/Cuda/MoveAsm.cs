using System.Runtime.CompilerServices;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Kernels;

/// <summary>Four words that one access moves. A view of these from the launch on gives 128-bit loads and stores; a view that a kernel casts does not.</summary>
internal struct Words128
{
    public int X;
    public int Y;
    public int Z;
    public int W;
}

/// <summary>
/// Instructions that ILGPU has no name for. All of them are exact, or rounded to nearest even: the results are the portable kernels' to the bit. <c>.rn</c> also
/// keeps ptxas from fusing a product with the addition that follows.
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

    /// <summary>a * b + c, rounded once: used where a * b is exact.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float MulAdd(float a, float b, float c)
    {
        CudaAsm.Emit("fma.rn.f32 %0, %1, %2, %3;", out float sum, a, b, c);
        return sum;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Min(float a, float b)
    {
        CudaAsm.Emit("min.f32 %0, %1, %2;", out float result, a, b);
        return result;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Max(float a, float b)
    {
        CudaAsm.Emit("max.f32 %0, %1, %2;", out float result, a, b);
        return result;
    }

    /// <summary>The binary16 number in the low half of a word.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float LowHalf(int word)
    {
        CudaAsm.Emit("{ .reg .b16 low, high; mov.b32 {low, high}, %1; cvt.f32.f16 %0, low; }", out float x, word);
        return x;
    }

    /// <summary>The binary16 number in the high half of a word.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float HighHalf(int word)
    {
        CudaAsm.Emit("{ .reg .b16 low, high; mov.b32 {low, high}, %1; cvt.f32.f16 %0, high; }", out float x, word);
        return x;
    }

    /// <summary>Four bytes out of the eight of two words, those of <paramref name="a"/> first, by the nibbles of <paramref name="select"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Bytes(int a, int b, int select)
    {
        CudaAsm.Emit("prmt.b32 %0, %1, %2, %3;", out int bytes, a, b, select);
        return bytes;
    }

    /// <summary>The sum of four products of bytes, and <paramref name="sum"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Dot(int a, int b, int sum)
    {
        CudaAsm.Emit("dp4a.u32.u32 %0, %1, %2, %3;", out int result, a, b, sum);
        return result;
    }
}
