using System.Runtime.CompilerServices;
using ILGPU;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Kernels;

/// <summary>What a lane of a warp does in one instruction of PTX, sm_80 and later. Every lane of the warp takes part in those that meet.</summary>
internal static class Lane
{
    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;

    /// <summary>c += A B of binary16 numbers: A 16 rows by 16, B 16 by 8 columns.</summary>
    [MethodImpl(Inlined)]
    public static void MultiplyHalves(ref Floats4 c, Words4 a, int b0, int b1)
    {
        Ref<float> c0 = c.A;
        Ref<float> c1 = c.B;
        Ref<float> c2 = c.C;
        Ref<float> c3 = c.D;
        Input<int> a0 = a.X;
        Input<int> a1 = a.Y;
        Input<int> a2 = a.Z;
        Input<int> a3 = a.W;
        Input<int> low = b0;
        Input<int> high = b1;
        CudaAsm.EmitRef(
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};",
            ref c0, ref c1, ref c2, ref c3, ref a0, ref a1, ref a2, ref a3, ref low, ref high);
        c.A = c0.Value;
        c.B = c1.Value;
        c.C = c2.Value;
        c.D = c3.Value;
    }

    /// <summary>c + A B: sums that begin elsewhere are not copied first.</summary>
    [MethodImpl(Inlined)]
    public static Floats4 MultiplyHalvesFrom(Floats4 c, Words4 a, int b0, int b1)
    {
        Ref<float> d0 = 0f;
        Ref<float> d1 = 0f;
        Ref<float> d2 = 0f;
        Ref<float> d3 = 0f;
        Input<int> a0 = a.X;
        Input<int> a1 = a.Y;
        Input<int> a2 = a.Z;
        Input<int> a3 = a.W;
        Input<int> low = b0;
        Input<int> high = b1;
        Input<float> c0 = c.A;
        Input<float> c1 = c.B;
        Input<float> c2 = c.C;
        Input<float> c3 = c.D;
        CudaAsm.EmitRef(
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};",
            ref d0, ref d1, ref d2, ref d3, ref a0, ref a1, ref a2, ref a3, ref low, ref high, ref c0, ref c1, ref c2, ref c3);
        Floats4 d = default;
        d.A = d0.Value;
        d.B = d1.Value;
        d.C = d2.Value;
        d.D = d3.Value;
        return d;
    }

    /// <summary>c += A B of bfloat16 numbers.</summary>
    [MethodImpl(Inlined)]
    public static void MultiplyBFloats(ref Floats4 c, Words4 a, int b0, int b1)
    {
        Ref<float> c0 = c.A;
        Ref<float> c1 = c.B;
        Ref<float> c2 = c.C;
        Ref<float> c3 = c.D;
        Input<int> a0 = a.X;
        Input<int> a1 = a.Y;
        Input<int> a2 = a.Z;
        Input<int> a3 = a.W;
        Input<int> low = b0;
        Input<int> high = b1;
        CudaAsm.EmitRef(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};",
            ref c0, ref c1, ref c2, ref c3, ref a0, ref a1, ref a2, ref a3, ref low, ref high);
        c.A = c0.Value;
        c.B = c1.Value;
        c.C = c2.Value;
        c.D = c3.Value;
    }

    /// <summary>c += A B of signed bytes: A 16 rows by 32, B 32 by 8 columns.</summary>
    [MethodImpl(Inlined)]
    public static void MultiplyBytes(ref IntTile c, Words4 a, int b0, int b1)
    {
        Ref<int> c0 = c.A;
        Ref<int> c1 = c.B;
        Ref<int> c2 = c.C;
        Ref<int> c3 = c.D;
        Input<int> a0 = a.X;
        Input<int> a1 = a.Y;
        Input<int> a2 = a.Z;
        Input<int> a3 = a.W;
        Input<int> low = b0;
        Input<int> high = b1;
        CudaAsm.EmitRef(
            "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};",
            ref c0, ref c1, ref c2, ref c3, ref a0, ref a1, ref a2, ref a3, ref low, ref high);
        c.A = c0.Value;
        c.B = c1.Value;
        c.C = c2.Value;
        c.D = c3.Value;
    }

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

    /// <summary>a + b of each half.</summary>
    [MethodImpl(Inlined)]
    public static int AddHalves(int a, int b)
    {
        CudaAsm.Emit("add.rn.f16x2 %0, %1, %2;", out int result, a, b);
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

    /// <summary>The larger of two numbers.</summary>
    [MethodImpl(Inlined)]
    public static float Max(float a, float b)
    {
        CudaAsm.Emit("max.f32 %0, %1, %2;", out float result, a, b);
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
