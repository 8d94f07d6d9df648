using System.Runtime.CompilerServices;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Four mma with one A operand, as one statement: for the compiler each statement is ten variables or more, and copies of its sums, so that a kernel of some hundred
/// mma would take many seconds. B operands: two words for each, the first two tiles' in low.
/// </summary>
internal static class LaneTiles
{
    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;
    private const string Halves = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32";
    private const string BFloats = "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32";
    private const string Bytes = "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32";

    /// <summary>Words of an operand, in the order that they have in memory.</summary>
    [MethodImpl(Inlined)]
    public static void Set(ref InputWords target, Words4 words)
    {
        target.X = words.X;
        target.Y = words.Y;
        target.Z = words.Z;
        target.W = words.W;
    }

    /// <summary>Words of an operand whose second and third lie in the other order.</summary>
    [MethodImpl(Inlined)]
    public static void SetCrossed(ref InputWords target, Words4 words)
    {
        target.X = words.X;
        target.Y = words.Z;
        target.Z = words.Y;
        target.W = words.W;
    }

    /// <summary>sum = sum * scale + page, of four tiles; the factors of the upper rows and of the lower ones.</summary>
    [MethodImpl(Inlined)]
    public static void Fold(ref RefTiles<float> sum, ref RefTiles<float> page, ScalePair scale)
    {
        Fold(ref sum.T0, ref page.T0, scale);
        Fold(ref sum.T1, ref page.T1, scale);
        Fold(ref sum.T2, ref page.T2, scale);
        Fold(ref sum.T3, ref page.T3, scale);
    }

    [MethodImpl(Inlined)]
    private static void Fold(ref RefTile<float> sum, ref RefTile<float> page, ScalePair scale)
    {
        Input<float> a = scale.A;
        Input<float> b = scale.B;
        CudaAsm.EmitRef(
            "fma.rn.f32 %0, %0, %4, %6;\nfma.rn.f32 %1, %1, %4, %7;\nfma.rn.f32 %2, %2, %5, %8;\nfma.rn.f32 %3, %3, %5, %9;",
            ref sum.A, ref sum.B, ref sum.C, ref sum.D, ref a, ref b, ref page.A, ref page.B, ref page.C, ref page.D);
    }

    /// <summary>c += A B of binary16 numbers.</summary>
    [MethodImpl(Inlined)]
    public static void MultiplyHalves(ref RefTiles<float> c, ref InputWords a, ref InputWords low, ref InputWords high)
    {
        CudaAsm.EmitRef(
            Halves + " {%0,%1,%2,%3}, {%16,%17,%18,%19}, {%20,%21}, {%0,%1,%2,%3};\n"
            + Halves + " {%4,%5,%6,%7}, {%16,%17,%18,%19}, {%22,%23}, {%4,%5,%6,%7};\n"
            + Halves + " {%8,%9,%10,%11}, {%16,%17,%18,%19}, {%24,%25}, {%8,%9,%10,%11};\n"
            + Halves + " {%12,%13,%14,%15}, {%16,%17,%18,%19}, {%26,%27}, {%12,%13,%14,%15};",
            ref c.T0.A, ref c.T0.B, ref c.T0.C, ref c.T0.D, ref c.T1.A, ref c.T1.B, ref c.T1.C, ref c.T1.D,
            ref c.T2.A, ref c.T2.B, ref c.T2.C, ref c.T2.D, ref c.T3.A, ref c.T3.B, ref c.T3.C, ref c.T3.D,
            ref a.X, ref a.Y, ref a.Z, ref a.W, ref low.X, ref low.Y, ref low.Z, ref low.W, ref high.X, ref high.Y, ref high.Z, ref high.W);
    }

    /// <summary>c += A B of bfloat16 numbers.</summary>
    [MethodImpl(Inlined)]
    public static void MultiplyBFloats(ref RefTiles<float> c, ref InputWords a, ref InputWords low, ref InputWords high)
    {
        CudaAsm.EmitRef(
            BFloats + " {%0,%1,%2,%3}, {%16,%17,%18,%19}, {%20,%21}, {%0,%1,%2,%3};\n"
            + BFloats + " {%4,%5,%6,%7}, {%16,%17,%18,%19}, {%22,%23}, {%4,%5,%6,%7};\n"
            + BFloats + " {%8,%9,%10,%11}, {%16,%17,%18,%19}, {%24,%25}, {%8,%9,%10,%11};\n"
            + BFloats + " {%12,%13,%14,%15}, {%16,%17,%18,%19}, {%26,%27}, {%12,%13,%14,%15};",
            ref c.T0.A, ref c.T0.B, ref c.T0.C, ref c.T0.D, ref c.T1.A, ref c.T1.B, ref c.T1.C, ref c.T1.D,
            ref c.T2.A, ref c.T2.B, ref c.T2.C, ref c.T2.D, ref c.T3.A, ref c.T3.B, ref c.T3.C, ref c.T3.D,
            ref a.X, ref a.Y, ref a.Z, ref a.W, ref low.X, ref low.Y, ref low.Z, ref low.W, ref high.X, ref high.Y, ref high.Z, ref high.W);
    }

    /// <summary>c += A B of signed bytes.</summary>
    [MethodImpl(Inlined)]
    public static void MultiplyBytes(ref RefTiles<int> c, ref InputWords a, ref InputWords low, ref InputWords high)
    {
        CudaAsm.EmitRef(
            Bytes + " {%0,%1,%2,%3}, {%16,%17,%18,%19}, {%20,%21}, {%0,%1,%2,%3};\n"
            + Bytes + " {%4,%5,%6,%7}, {%16,%17,%18,%19}, {%22,%23}, {%4,%5,%6,%7};\n"
            + Bytes + " {%8,%9,%10,%11}, {%16,%17,%18,%19}, {%24,%25}, {%8,%9,%10,%11};\n"
            + Bytes + " {%12,%13,%14,%15}, {%16,%17,%18,%19}, {%26,%27}, {%12,%13,%14,%15};",
            ref c.T0.A, ref c.T0.B, ref c.T0.C, ref c.T0.D, ref c.T1.A, ref c.T1.B, ref c.T1.C, ref c.T1.D,
            ref c.T2.A, ref c.T2.B, ref c.T2.C, ref c.T2.D, ref c.T3.A, ref c.T3.B, ref c.T3.C, ref c.T3.D,
            ref a.X, ref a.Y, ref a.Z, ref a.W, ref low.X, ref low.Y, ref low.Z, ref low.W, ref high.X, ref high.Y, ref high.Z, ref high.W);
    }
}
