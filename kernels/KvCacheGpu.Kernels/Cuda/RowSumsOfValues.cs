using System.Runtime.CompilerServices;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Kernels;

/// <summary>Where a lane's values of a page lie.</summary>
internal struct ValuePlace
{
    public int At;
    public int Stride;
}

/// <summary>The sums of weighted values for <see cref="TensorPrefill"/>, as <see cref="RowProducts"/> are: values lie in shared memory for each tile of tokens by pairs of eight elements.</summary>
internal static class RowSumsOfValues
{
    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;
    private const string Halves = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 ";
    private const string BFloats = "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 ";

    // A page's own sums are added in binary32: chains of products are too short to drift where a device truncates.
    private const string HalfPairOfOne =
        "{ .reg .b32 b<4>, v; .reg .f32 x<4>, y<4>, z;\n"
        + "mov.b32 v, __shared_alloca0;\n"
        + "add.u32 v, v, %26;\n"
        + "mov.f32 z, 0f00000000;\n"
        + "ld.shared.v4.b32 {b0,b1,b2,b3}, [v];\n"
        + Halves + "{x0,x1,x2,x3}, {%8,%9,%10,%11}, {b0,b1}, {z,z,z,z};\n"
        + Halves + "{y0,y1,y2,y3}, {%8,%9,%10,%11}, {b2,b3}, {z,z,z,z};\n"
        + "add.u32 v, v, %27;\n"
        + "ld.shared.v4.b32 {b0,b1,b2,b3}, [v];\n"
        + Halves + "{x0,x1,x2,x3}, {%12,%13,%14,%15}, {b0,b1}, {x0,x1,x2,x3};\n"
        + Halves + "{y0,y1,y2,y3}, {%12,%13,%14,%15}, {b2,b3}, {y0,y1,y2,y3};\n"
        + "add.u32 v, v, %27;\n"
        + "ld.shared.v4.b32 {b0,b1,b2,b3}, [v];\n"
        + Halves + "{x0,x1,x2,x3}, {%16,%17,%18,%19}, {b0,b1}, {x0,x1,x2,x3};\n"
        + Halves + "{y0,y1,y2,y3}, {%16,%17,%18,%19}, {b2,b3}, {y0,y1,y2,y3};\n"
        + "add.u32 v, v, %27;\n"
        + "ld.shared.v4.b32 {b0,b1,b2,b3}, [v];\n"
        + Halves + "{x0,x1,x2,x3}, {%20,%21,%22,%23}, {b0,b1}, {x0,x1,x2,x3};\n"
        + Halves + "{y0,y1,y2,y3}, {%20,%21,%22,%23}, {b2,b3}, {y0,y1,y2,y3};\n"
        + "fma.rn.f32 %0, %0, %24, x0; fma.rn.f32 %1, %1, %24, x1; fma.rn.f32 %2, %2, %25, x2; fma.rn.f32 %3, %3, %25, x3;\n"
        + "fma.rn.f32 %4, %4, %24, y0; fma.rn.f32 %5, %5, %24, y1; fma.rn.f32 %6, %6, %25, y2; fma.rn.f32 %7, %7, %25, y3;\n"
        + "}";

    private const string HalfPairOfTwo =
        "{ .reg .b32 b<4>, v; .reg .f32 x<4>, y<4>, z;\n"
        + "mov.b32 v, __shared_alloca0;\n"
        + "add.u32 v, v, %42;\n"
        + "mov.f32 z, 0f00000000;\n"
        + "ld.shared.v4.b32 {b0,b1,b2,b3}, [v];\n"
        + Halves + "{x0,x1,x2,x3}, {%8,%9,%10,%11}, {b0,b1}, {z,z,z,z};\n"
        + Halves + "{y0,y1,y2,y3}, {%8,%9,%10,%11}, {b2,b3}, {z,z,z,z};\n"
        + Halves + "{x0,x1,x2,x3}, {%24,%25,%26,%27}, {b0,b1}, {x0,x1,x2,x3};\n"
        + Halves + "{y0,y1,y2,y3}, {%24,%25,%26,%27}, {b2,b3}, {y0,y1,y2,y3};\n"
        + "add.u32 v, v, %43;\n"
        + "ld.shared.v4.b32 {b0,b1,b2,b3}, [v];\n"
        + Halves + "{x0,x1,x2,x3}, {%12,%13,%14,%15}, {b0,b1}, {x0,x1,x2,x3};\n"
        + Halves + "{y0,y1,y2,y3}, {%12,%13,%14,%15}, {b2,b3}, {y0,y1,y2,y3};\n"
        + Halves + "{x0,x1,x2,x3}, {%28,%29,%30,%31}, {b0,b1}, {x0,x1,x2,x3};\n"
        + Halves + "{y0,y1,y2,y3}, {%28,%29,%30,%31}, {b2,b3}, {y0,y1,y2,y3};\n"
        + "add.u32 v, v, %43;\n"
        + "ld.shared.v4.b32 {b0,b1,b2,b3}, [v];\n"
        + Halves + "{x0,x1,x2,x3}, {%16,%17,%18,%19}, {b0,b1}, {x0,x1,x2,x3};\n"
        + Halves + "{y0,y1,y2,y3}, {%16,%17,%18,%19}, {b2,b3}, {y0,y1,y2,y3};\n"
        + Halves + "{x0,x1,x2,x3}, {%32,%33,%34,%35}, {b0,b1}, {x0,x1,x2,x3};\n"
        + Halves + "{y0,y1,y2,y3}, {%32,%33,%34,%35}, {b2,b3}, {y0,y1,y2,y3};\n"
        + "add.u32 v, v, %43;\n"
        + "ld.shared.v4.b32 {b0,b1,b2,b3}, [v];\n"
        + Halves + "{x0,x1,x2,x3}, {%20,%21,%22,%23}, {b0,b1}, {x0,x1,x2,x3};\n"
        + Halves + "{y0,y1,y2,y3}, {%20,%21,%22,%23}, {b2,b3}, {y0,y1,y2,y3};\n"
        + Halves + "{x0,x1,x2,x3}, {%36,%37,%38,%39}, {b0,b1}, {x0,x1,x2,x3};\n"
        + Halves + "{y0,y1,y2,y3}, {%36,%37,%38,%39}, {b2,b3}, {y0,y1,y2,y3};\n"
        + "fma.rn.f32 %0, %0, %40, x0; fma.rn.f32 %1, %1, %40, x1; fma.rn.f32 %2, %2, %41, x2; fma.rn.f32 %3, %3, %41, x3;\n"
        + "fma.rn.f32 %4, %4, %40, y0; fma.rn.f32 %5, %5, %40, y1; fma.rn.f32 %6, %6, %41, y2; fma.rn.f32 %7, %7, %41, y3;\n"
        + "}";

    private const string BFloatPairOfOne =
        "{ .reg .b32 b<4>, v; .reg .f32 x<4>, y<4>, z;\n"
        + "mov.b32 v, __shared_alloca0;\n"
        + "add.u32 v, v, %26;\n"
        + "mov.f32 z, 0f00000000;\n"
        + "ld.shared.v4.b32 {b0,b1,b2,b3}, [v];\n"
        + BFloats + "{x0,x1,x2,x3}, {%8,%9,%10,%11}, {b0,b1}, {z,z,z,z};\n"
        + BFloats + "{y0,y1,y2,y3}, {%8,%9,%10,%11}, {b2,b3}, {z,z,z,z};\n"
        + "add.u32 v, v, %27;\n"
        + "ld.shared.v4.b32 {b0,b1,b2,b3}, [v];\n"
        + BFloats + "{x0,x1,x2,x3}, {%12,%13,%14,%15}, {b0,b1}, {x0,x1,x2,x3};\n"
        + BFloats + "{y0,y1,y2,y3}, {%12,%13,%14,%15}, {b2,b3}, {y0,y1,y2,y3};\n"
        + "add.u32 v, v, %27;\n"
        + "ld.shared.v4.b32 {b0,b1,b2,b3}, [v];\n"
        + BFloats + "{x0,x1,x2,x3}, {%16,%17,%18,%19}, {b0,b1}, {x0,x1,x2,x3};\n"
        + BFloats + "{y0,y1,y2,y3}, {%16,%17,%18,%19}, {b2,b3}, {y0,y1,y2,y3};\n"
        + "add.u32 v, v, %27;\n"
        + "ld.shared.v4.b32 {b0,b1,b2,b3}, [v];\n"
        + BFloats + "{x0,x1,x2,x3}, {%20,%21,%22,%23}, {b0,b1}, {x0,x1,x2,x3};\n"
        + BFloats + "{y0,y1,y2,y3}, {%20,%21,%22,%23}, {b2,b3}, {y0,y1,y2,y3};\n"
        + "fma.rn.f32 %0, %0, %24, x0; fma.rn.f32 %1, %1, %24, x1; fma.rn.f32 %2, %2, %25, x2; fma.rn.f32 %3, %3, %25, x3;\n"
        + "fma.rn.f32 %4, %4, %24, y0; fma.rn.f32 %5, %5, %24, y1; fma.rn.f32 %6, %6, %25, y2; fma.rn.f32 %7, %7, %25, y3;\n"
        + "}";

    private const string BFloatPairOfTwo =
        "{ .reg .b32 b<4>, v; .reg .f32 x<4>, y<4>, z;\n"
        + "mov.b32 v, __shared_alloca0;\n"
        + "add.u32 v, v, %42;\n"
        + "mov.f32 z, 0f00000000;\n"
        + "ld.shared.v4.b32 {b0,b1,b2,b3}, [v];\n"
        + BFloats + "{x0,x1,x2,x3}, {%8,%9,%10,%11}, {b0,b1}, {z,z,z,z};\n"
        + BFloats + "{y0,y1,y2,y3}, {%8,%9,%10,%11}, {b2,b3}, {z,z,z,z};\n"
        + BFloats + "{x0,x1,x2,x3}, {%24,%25,%26,%27}, {b0,b1}, {x0,x1,x2,x3};\n"
        + BFloats + "{y0,y1,y2,y3}, {%24,%25,%26,%27}, {b2,b3}, {y0,y1,y2,y3};\n"
        + "add.u32 v, v, %43;\n"
        + "ld.shared.v4.b32 {b0,b1,b2,b3}, [v];\n"
        + BFloats + "{x0,x1,x2,x3}, {%12,%13,%14,%15}, {b0,b1}, {x0,x1,x2,x3};\n"
        + BFloats + "{y0,y1,y2,y3}, {%12,%13,%14,%15}, {b2,b3}, {y0,y1,y2,y3};\n"
        + BFloats + "{x0,x1,x2,x3}, {%28,%29,%30,%31}, {b0,b1}, {x0,x1,x2,x3};\n"
        + BFloats + "{y0,y1,y2,y3}, {%28,%29,%30,%31}, {b2,b3}, {y0,y1,y2,y3};\n"
        + "add.u32 v, v, %43;\n"
        + "ld.shared.v4.b32 {b0,b1,b2,b3}, [v];\n"
        + BFloats + "{x0,x1,x2,x3}, {%16,%17,%18,%19}, {b0,b1}, {x0,x1,x2,x3};\n"
        + BFloats + "{y0,y1,y2,y3}, {%16,%17,%18,%19}, {b2,b3}, {y0,y1,y2,y3};\n"
        + BFloats + "{x0,x1,x2,x3}, {%32,%33,%34,%35}, {b0,b1}, {x0,x1,x2,x3};\n"
        + BFloats + "{y0,y1,y2,y3}, {%32,%33,%34,%35}, {b2,b3}, {y0,y1,y2,y3};\n"
        + "add.u32 v, v, %43;\n"
        + "ld.shared.v4.b32 {b0,b1,b2,b3}, [v];\n"
        + BFloats + "{x0,x1,x2,x3}, {%20,%21,%22,%23}, {b0,b1}, {x0,x1,x2,x3};\n"
        + BFloats + "{y0,y1,y2,y3}, {%20,%21,%22,%23}, {b2,b3}, {y0,y1,y2,y3};\n"
        + BFloats + "{x0,x1,x2,x3}, {%36,%37,%38,%39}, {b0,b1}, {x0,x1,x2,x3};\n"
        + BFloats + "{y0,y1,y2,y3}, {%36,%37,%38,%39}, {b2,b3}, {y0,y1,y2,y3};\n"
        + "fma.rn.f32 %0, %0, %40, x0; fma.rn.f32 %1, %1, %40, x1; fma.rn.f32 %2, %2, %41, x2; fma.rn.f32 %3, %3, %41, x3;\n"
        + "fma.rn.f32 %4, %4, %40, y0; fma.rn.f32 %5, %5, %40, y1; fma.rn.f32 %6, %6, %41, y2; fma.rn.f32 %7, %7, %41, y3;\n"
        + "}";

    /// <summary>x, y = x, y * scale + P V of 16 query rows, 64 tokens and two times eight elements.</summary>
    /// <param name="x">The sums of the first eight elements.</param>
    /// <param name="y">The sums of the others.</param>
    /// <param name="w">The weights, in 2 parts or 1; BFloats in 3 or 2.</param>
    /// <param name="arithmetic">Halves or BFloats.</param>
    /// <param name="parts">Their number.</param>
    /// <param name="scale">Factors of the sums so far, of the upper rows and of the lower ones.</param>
    /// <param name="values">The offset of the lane's values, and from one tile of tokens to the next.</param>
    [MethodImpl(Inlined)]
    public static void Add(ref RefTile<float> x, ref RefTile<float> y, ref RowParts w, TileArithmetic arithmetic, int parts, ScalePair scale, ValuePlace values)
    {
        Input<float> scaleA = scale.A;
        Input<float> scaleB = scale.B;
        Input<int> first = values.At;
        Input<int> stride = values.Stride;
        if (arithmetic == TileArithmetic.Halves && parts == 1)
        {
            CudaAsm.EmitRef(
                HalfPairOfOne,
                ref x.A, ref x.B, ref x.C, ref x.D, ref y.A, ref y.B, ref y.C, ref y.D,
                ref w.A0.X, ref w.A0.Y, ref w.A0.Z, ref w.A0.W, ref w.A1.X, ref w.A1.Y, ref w.A1.Z, ref w.A1.W,
                ref w.A2.X, ref w.A2.Y, ref w.A2.Z, ref w.A2.W, ref w.A3.X, ref w.A3.Y, ref w.A3.Z, ref w.A3.W,
                ref scaleA, ref scaleB, ref first, ref stride);
        }
        else if (arithmetic == TileArithmetic.Halves)
        {
            CudaAsm.EmitRef(
                HalfPairOfTwo,
                ref x.A, ref x.B, ref x.C, ref x.D, ref y.A, ref y.B, ref y.C, ref y.D,
                ref w.A0.X, ref w.A0.Y, ref w.A0.Z, ref w.A0.W, ref w.A1.X, ref w.A1.Y, ref w.A1.Z, ref w.A1.W,
                ref w.A2.X, ref w.A2.Y, ref w.A2.Z, ref w.A2.W, ref w.A3.X, ref w.A3.Y, ref w.A3.Z, ref w.A3.W,
                ref w.B0.X, ref w.B0.Y, ref w.B0.Z, ref w.B0.W, ref w.B1.X, ref w.B1.Y, ref w.B1.Z, ref w.B1.W,
                ref w.B2.X, ref w.B2.Y, ref w.B2.Z, ref w.B2.W, ref w.B3.X, ref w.B3.Y, ref w.B3.Z, ref w.B3.W,
                ref scaleA, ref scaleB, ref first, ref stride);
        }
        else
        {
            CudaAsm.EmitRef(
                BFloatPairOfTwo,
                ref x.A, ref x.B, ref x.C, ref x.D, ref y.A, ref y.B, ref y.C, ref y.D,
                ref w.A0.X, ref w.A0.Y, ref w.A0.Z, ref w.A0.W, ref w.A1.X, ref w.A1.Y, ref w.A1.Z, ref w.A1.W,
                ref w.A2.X, ref w.A2.Y, ref w.A2.Z, ref w.A2.W, ref w.A3.X, ref w.A3.Y, ref w.A3.Z, ref w.A3.W,
                ref w.B0.X, ref w.B0.Y, ref w.B0.Z, ref w.B0.W, ref w.B1.X, ref w.B1.Y, ref w.B1.Z, ref w.B1.W,
                ref w.B2.X, ref w.B2.Y, ref w.B2.Z, ref w.B2.W, ref w.B3.X, ref w.B3.Y, ref w.B3.Z, ref w.B3.W,
                ref scaleA, ref scaleB, ref first, ref stride);
            if (parts == 3)
            {
                scaleA = 1f;
                scaleB = 1f;
                CudaAsm.EmitRef(
                    BFloatPairOfOne,
                    ref x.A, ref x.B, ref x.C, ref x.D, ref y.A, ref y.B, ref y.C, ref y.D,
                    ref w.C0.X, ref w.C0.Y, ref w.C0.Z, ref w.C0.W, ref w.C1.X, ref w.C1.Y, ref w.C1.Z, ref w.C1.W,
                    ref w.C2.X, ref w.C2.Y, ref w.C2.Z, ref w.C2.W, ref w.C3.X, ref w.C3.Y, ref w.C3.Z, ref w.C3.W,
                    ref scaleA, ref scaleB, ref first, ref stride);
            }
        }
    }
}
