using System.Runtime.CompilerServices;
using ILGPU;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Kernels;

/// <summary>What a lane of a warp does in one instruction of PTX, sm_80 and later. Every lane of the warp takes part in those that meet.</summary>
internal static class Lane
{
    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;

    /// <summary>Zero, which ptxas cannot know. A constant plus this stays in a register; as it is ptxas builds it anew for every instruction that takes it from one.</summary>
    [MethodImpl(Inlined)]
    public static int Zero() => Warp.LaneIdx - (Group.IdxX & 31);

    /// <summary>Four bytes of a (numbered 0..3) and b (4..7), a nibble of <paramref name="select"/> each.</summary>
    [MethodImpl(Inlined)]
    public static int Permute(int a, int b, int select)
    {
        CudaAsm.Emit("prmt.b32 %0, %1, %2, %3;", out int result, a, b, select);
        return result;
    }

    /// <summary>The transposed 8 by 8 matrix of 16-bit numbers whose row g has two numbers in each of the lanes 4 g .. 4 g + 3.</summary>
    [MethodImpl(Inlined)]
    public static int Transpose(int word)
    {
        CudaAsm.Emit("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;", out int result, word);
        return result;
    }

    /// <summary>Two binary16 numbers, rounded to nearest even, in one word.</summary>
    [MethodImpl(Inlined)]
    public static int PackHalves(float low, float high)
    {
        CudaAsm.Emit("cvt.rn.f16x2.f32 %0, %1, %2;", out int result, high, low);
        return result;
    }

    /// <summary>Two bfloat16 numbers, rounded to nearest even, in one word.</summary>
    [MethodImpl(Inlined)]
    public static int PackBFloats(float low, float high)
    {
        CudaAsm.Emit("cvt.rn.bf16x2.f32 %0, %1, %2;", out int result, high, low);
        return result;
    }

    /// <summary>The binary16 number in a word's low half.</summary>
    [MethodImpl(Inlined)]
    public static float LowHalf(int word)
    {
        CudaAsm.Emit("{ .reg .f16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, l; }", out float result, word);
        return result;
    }

    /// <summary>The binary16 number in a word's high half.</summary>
    [MethodImpl(Inlined)]
    public static float HighHalf(int word)
    {
        CudaAsm.Emit("{ .reg .f16 l, h; mov.b32 {l, h}, %1; cvt.f32.f16 %0, h; }", out float result, word);
        return result;
    }

    /// <summary>Of halves 1024 + n + 128 the signed numbers n.</summary>
    [MethodImpl(Inlined)]
    public static int SignedHalves(int word)
    {
        CudaAsm.Emit("{ .reg .b32 m; mov.b32 m, 0xE480E480; add.rn.f16x2 %0, %1, m; }", out int result, word);
        return result;
    }

    /// <summary>The larger of each half.</summary>
    [MethodImpl(Inlined)]
    public static int MaxHalves(int a, int b)
    {
        CudaAsm.Emit("max.f16x2 %0, %1, %2;", out int result, a, b);
        return result;
    }

    /// <summary>2^x, relative error 2^-22 at most.</summary>
    [MethodImpl(Inlined)]
    public static float Exp2(float x)
    {
        CudaAsm.Emit("ex2.approx.ftz.f32 %0, %1;", out float result, x);
        return result;
    }

    /// <summary>a b + c, rounded once.</summary>
    [MethodImpl(Inlined)]
    public static float Fma(float a, float b, float c)
    {
        CudaAsm.Emit("fma.rn.f32 %0, %1, %2, %3;", out float result, a, b, c);
        return result;
    }

    /// <summary>The nearest whole number.</summary>
    [MethodImpl(Inlined)]
    public static int Round(float x)
    {
        CudaAsm.Emit("cvt.rni.s32.f32 %0, %1;", out int result, x);
        return result;
    }

    /// <summary>log2 x, absolute error 2^-22 near 1, else relative.</summary>
    [MethodImpl(Inlined)]
    public static float Log2(float x)
    {
        CudaAsm.Emit("lg2.approx.ftz.f32 %0, %1;", out float result, x);
        return result;
    }

    /// <summary>|x|.</summary>
    [MethodImpl(Inlined)]
    public static float Absolute(float x)
    {
        CudaAsm.Emit("abs.f32 %0, %1;", out float result, x);
        return result;
    }

    /// <summary>1 if a &gt; b in some lane of the warp, else 0.</summary>
    [MethodImpl(Inlined)]
    public static int AnyAbove(float a, float b)
    {
        CudaAsm.Emit("{ .reg .pred p; setp.gt.f32 p, %1, %2; vote.sync.any.pred p, p, 0xffffffff; selp.s32 %0, 1, 0, p; }", out int result, a, b);
        return result;
    }

    /// <summary>The larger of two numbers.</summary>
    [MethodImpl(Inlined)]
    public static float Max(float a, float b)
    {
        CudaAsm.Emit("max.f32 %0, %1, %2;", out float result, a, b);
        return result;
    }

    /// <summary>The smaller of two numbers.</summary>
    [MethodImpl(Inlined)]
    public static float Min(float a, float b)
    {
        CudaAsm.Emit("min.f32 %0, %1, %2;", out float result, a, b);
        return result;
    }

    /// <summary>a &amp; b as one instruction, whatever follows: in ILGPU's hands masks of halves become more.</summary>
    [MethodImpl(Inlined)]
    public static int And(int a, int b)
    {
        CudaAsm.Emit("and.b32 %0, %1, %2;", out int result, a, b);
        return result;
    }

    /// <summary>(a &amp; b) ^ c as one instruction: with two constants ptxas makes two of it.</summary>
    [MethodImpl(Inlined)]
    public static int AndXor(int a, int b, int c)
    {
        CudaAsm.Emit("lop3.b32 %0, %1, %2, %3, 0x6A;", out int result, a, b, c);
        return result;
    }

    /// <summary>The largest x of the lanes with the same q, in all of them.</summary>
    [MethodImpl(Inlined)]
    public static float LargestOfRows(float x)
    {
        x = Max(x, Warp.ShuffleXor(x, 4));
        x = Max(x, Warp.ShuffleXor(x, 8));
        return Max(x, Warp.ShuffleXor(x, 16));
    }

    /// <summary>The sum of x over the lanes with the same q, in all of them.</summary>
    [MethodImpl(Inlined)]
    public static float SumOfRows(float x)
    {
        x += Warp.ShuffleXor(x, 4);
        x += Warp.ShuffleXor(x, 8);
        return x + Warp.ShuffleXor(x, 16);
    }
}
