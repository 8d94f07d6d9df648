using System.Runtime.CompilerServices;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Kernels;

/// <summary>The query rows of a warp in limbs.</summary>
internal struct ByteRows
{
    /// <summary>The offset of the lane's words.</summary>
    public int At;

    /// <summary>2, 3 or 4.</summary>
    public int Steps;
    public int Limbs;

    /// <summary>What the sums of the lane's rows begin at.</summary>
    public int HalfA;
    public int HalfB;
}

/// <summary>
/// The products of query rows and keys for <see cref="TensorPrefill"/>, as statements of PTX that read their operands from shared memory. Written in C# a kernel has some
/// hundred mma, of each of which ILGPU makes ten variables in local memory: it compiles three times as long, and copies sums from turn to turn of a loop.
/// </summary>
/// <remarks>
/// Offsets are bytes from the start of the group's shared memory, of which the kernel has one piece. Operands lie there as Words4 of each lane, 512 bytes for a warp: of
/// queries for each step and part, of keys for each step the four tiles of tokens (<see cref="RowTiles"/>).
/// </remarks>
internal static class RowProducts
{
    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;
    private const string Halves = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 ";
    private const string BFloats = "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 ";
    private const string Bytes = "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 ";

    private const string Keys =
        "ld.shared.v4.b32 {b0,b1,b2,b3}, [k];\n"
        + "ld.shared.v4.b32 {b4,b5,b6,b7}, [k+512];\n"
        + "ld.shared.v4.b32 {b8,b9,b10,b11}, [k+1024];\n"
        + "ld.shared.v4.b32 {b12,b13,b14,b15}, [k+1536];\n";

    private const string FirstPart =
        "ld.shared.v4.b32 {a0,a1,a2,a3}, [q];\n";

    private const string SecondPart =
        "ld.shared.v4.b32 {a0,a1,a2,a3}, [q+512];\n";

    private const string HalfTiles =
        Halves + "{%0,%1,%2,%3}, {a0,a1,a2,a3}, {b0,b1}, {%0,%1,%2,%3};\n"
        + Halves + "{%4,%5,%6,%7}, {a0,a1,a2,a3}, {b2,b3}, {%4,%5,%6,%7};\n"
        + Halves + "{%8,%9,%10,%11}, {a0,a1,a2,a3}, {b4,b5}, {%8,%9,%10,%11};\n"
        + Halves + "{%12,%13,%14,%15}, {a0,a1,a2,a3}, {b6,b7}, {%12,%13,%14,%15};\n"
        + Halves + "{%16,%17,%18,%19}, {a0,a1,a2,a3}, {b8,b9}, {%16,%17,%18,%19};\n"
        + Halves + "{%20,%21,%22,%23}, {a0,a1,a2,a3}, {b10,b11}, {%20,%21,%22,%23};\n"
        + Halves + "{%24,%25,%26,%27}, {a0,a1,a2,a3}, {b12,b13}, {%24,%25,%26,%27};\n"
        + Halves + "{%28,%29,%30,%31}, {a0,a1,a2,a3}, {b14,b15}, {%28,%29,%30,%31};\n";

    private const string BFloatTiles =
        BFloats + "{%0,%1,%2,%3}, {a0,a1,a2,a3}, {b0,b1}, {%0,%1,%2,%3};\n"
        + BFloats + "{%4,%5,%6,%7}, {a0,a1,a2,a3}, {b2,b3}, {%4,%5,%6,%7};\n"
        + BFloats + "{%8,%9,%10,%11}, {a0,a1,a2,a3}, {b4,b5}, {%8,%9,%10,%11};\n"
        + BFloats + "{%12,%13,%14,%15}, {a0,a1,a2,a3}, {b6,b7}, {%12,%13,%14,%15};\n"
        + BFloats + "{%16,%17,%18,%19}, {a0,a1,a2,a3}, {b8,b9}, {%16,%17,%18,%19};\n"
        + BFloats + "{%20,%21,%22,%23}, {a0,a1,a2,a3}, {b10,b11}, {%20,%21,%22,%23};\n"
        + BFloats + "{%24,%25,%26,%27}, {a0,a1,a2,a3}, {b12,b13}, {%24,%25,%26,%27};\n"
        + BFloats + "{%28,%29,%30,%31}, {a0,a1,a2,a3}, {b14,b15}, {%28,%29,%30,%31};\n";

    private const string Start =
        "{ .reg .b32 a<4>, b<16>, q, k; .reg .f32 f<8>, t;\n"
        + "mov.b32 q, __shared_alloca0;\n"
        + "add.u32 k, q, %33;\n"
        + "add.u32 q, q, %32;\n";

    private const string Next =
        "add.u32 q, q, 1024;\n"
        + "add.u32 k, k, 2048;\n";

    private const string HalvesOfOne =
        Keys + FirstPart + HalfTiles + "add.u32 q, q, 512;\nadd.u32 k, k, 2048;\n";

    private const string HalvesOfTwo =
        Keys + FirstPart + HalfTiles + SecondPart + HalfTiles + Next;

    private const string BFloatsOfTwo =
        Keys + FirstPart + BFloatTiles + SecondPart + BFloatTiles + Next;

    // The high halves of binary32 queries, then what is left of them.
    private const string Highs =
        "prmt.b32 a0, f0, f1, 0x7632;\n"
        + "prmt.b32 a2, f2, f3, 0x7632;\n"
        + "prmt.b32 a1, f4, f5, 0x7632;\n"
        + "prmt.b32 a3, f6, f7, 0x7632;\n";

    private const string Rests =
        "and.b32 t, f0, 0xFFFF0000; sub.f32 f0, f0, t;\n"
        + "and.b32 t, f1, 0xFFFF0000; sub.f32 f1, f1, t;\n"
        + "and.b32 t, f2, 0xFFFF0000; sub.f32 f2, f2, t;\n"
        + "and.b32 t, f3, 0xFFFF0000; sub.f32 f3, f3, t;\n"
        + "and.b32 t, f4, 0xFFFF0000; sub.f32 f4, f4, t;\n"
        + "and.b32 t, f5, 0xFFFF0000; sub.f32 f5, f5, t;\n"
        + "and.b32 t, f6, 0xFFFF0000; sub.f32 f6, f6, t;\n"
        + "and.b32 t, f7, 0xFFFF0000; sub.f32 f7, f7, t;\n";

    // Three parts would not fit into shared memory: queries lie there in binary32.
    private const string BFloatsOfThree =
        Keys + "ld.shared.v4.b32 {f0,f1,f2,f3}, [q];\nld.shared.v4.b32 {f4,f5,f6,f7}, [q+512];\n"
        + Highs + BFloatTiles + Rests + Highs + BFloatTiles + Rests + Highs + BFloatTiles + Next;

    private const string ByteStart =
        "{ .reg .b32 a<4>, b<16>, q, k, high<16>, middle<16>, low<16>; .reg .f32 t;\n"
        + "mov.b32 q, __shared_alloca0;\n"
        + "add.u32 k, q, %17;\n"
        + "add.u32 q, q, %16;\n"
        + "mov.b32 high0, 0; mov.b32 middle0, 0; mov.b32 low0, %18; mov.b32 high1, 0; mov.b32 middle1, 0; mov.b32 low1, %18; mov.b32 high2, 0; mov.b32 middle2, 0; mov.b32 low2, %19; mov.b32 high3, 0; mov.b32 middle3, 0; mov.b32 low3, %19;\n"
        + "mov.b32 high4, 0; mov.b32 middle4, 0; mov.b32 low4, %18; mov.b32 high5, 0; mov.b32 middle5, 0; mov.b32 low5, %18; mov.b32 high6, 0; mov.b32 middle6, 0; mov.b32 low6, %19; mov.b32 high7, 0; mov.b32 middle7, 0; mov.b32 low7, %19;\n"
        + "mov.b32 high8, 0; mov.b32 middle8, 0; mov.b32 low8, %18; mov.b32 high9, 0; mov.b32 middle9, 0; mov.b32 low9, %18; mov.b32 high10, 0; mov.b32 middle10, 0; mov.b32 low10, %19; mov.b32 high11, 0; mov.b32 middle11, 0; mov.b32 low11, %19;\n"
        + "mov.b32 high12, 0; mov.b32 middle12, 0; mov.b32 low12, %18; mov.b32 high13, 0; mov.b32 middle13, 0; mov.b32 low13, %18; mov.b32 high14, 0; mov.b32 middle14, 0; mov.b32 low14, %19; mov.b32 high15, 0; mov.b32 middle15, 0; mov.b32 low15, %19;\n";

    private const string ByteKeys =
        "ld.shared.v4.b32 {b0,b1,b2,b3}, [k];\n"
        + "ld.shared.v4.b32 {b4,b5,b6,b7}, [k+512];\n";

    private const string HighTiles =
        Bytes + "{high0,high1,high2,high3}, {a0,a1,a2,a3}, {b0,b1}, {high0,high1,high2,high3};\n"
        + Bytes + "{high4,high5,high6,high7}, {a0,a1,a2,a3}, {b2,b3}, {high4,high5,high6,high7};\n"
        + Bytes + "{high8,high9,high10,high11}, {a0,a1,a2,a3}, {b4,b5}, {high8,high9,high10,high11};\n"
        + Bytes + "{high12,high13,high14,high15}, {a0,a1,a2,a3}, {b6,b7}, {high12,high13,high14,high15};\n";

    private const string MiddleTiles =
        Bytes + "{middle0,middle1,middle2,middle3}, {a0,a1,a2,a3}, {b0,b1}, {middle0,middle1,middle2,middle3};\n"
        + Bytes + "{middle4,middle5,middle6,middle7}, {a0,a1,a2,a3}, {b2,b3}, {middle4,middle5,middle6,middle7};\n"
        + Bytes + "{middle8,middle9,middle10,middle11}, {a0,a1,a2,a3}, {b4,b5}, {middle8,middle9,middle10,middle11};\n"
        + Bytes + "{middle12,middle13,middle14,middle15}, {a0,a1,a2,a3}, {b6,b7}, {middle12,middle13,middle14,middle15};\n";

    private const string LowTiles =
        Bytes + "{low0,low1,low2,low3}, {a0,a1,a2,a3}, {b0,b1}, {low0,low1,low2,low3};\n"
        + Bytes + "{low4,low5,low6,low7}, {a0,a1,a2,a3}, {b2,b3}, {low4,low5,low6,low7};\n"
        + Bytes + "{low8,low9,low10,low11}, {a0,a1,a2,a3}, {b4,b5}, {low8,low9,low10,low11};\n"
        + Bytes + "{low12,low13,low14,low15}, {a0,a1,a2,a3}, {b6,b7}, {low12,low13,low14,low15};\n";

    private const string BytesOfTwo =
        ByteKeys + FirstPart + HighTiles + SecondPart + MiddleTiles + Next;

    private const string BytesOfThree =
        ByteKeys + FirstPart + HighTiles + SecondPart + MiddleTiles
        + "ld.shared.v4.b32 {a0,a1,a2,a3}, [q+1024];\n" + LowTiles + "add.u32 q, q, 512;\n" + Next;

    // Up to 512 elements two limbs' sums fit 32 bits together; their last bits are below binary32's either way.
    private const string Join =
        "shl.b32 high0, high0, 8; add.s32 high0, high0, middle0; cvt.rn.f32.s32 %0, high0; cvt.rn.f32.s32 t, low0; fma.rn.f32 %0, %0, 0f43800000, t;\n"
        + "shl.b32 high1, high1, 8; add.s32 high1, high1, middle1; cvt.rn.f32.s32 %1, high1; cvt.rn.f32.s32 t, low1; fma.rn.f32 %1, %1, 0f43800000, t;\n"
        + "shl.b32 high2, high2, 8; add.s32 high2, high2, middle2; cvt.rn.f32.s32 %2, high2; cvt.rn.f32.s32 t, low2; fma.rn.f32 %2, %2, 0f43800000, t;\n"
        + "shl.b32 high3, high3, 8; add.s32 high3, high3, middle3; cvt.rn.f32.s32 %3, high3; cvt.rn.f32.s32 t, low3; fma.rn.f32 %3, %3, 0f43800000, t;\n"
        + "shl.b32 high4, high4, 8; add.s32 high4, high4, middle4; cvt.rn.f32.s32 %4, high4; cvt.rn.f32.s32 t, low4; fma.rn.f32 %4, %4, 0f43800000, t;\n"
        + "shl.b32 high5, high5, 8; add.s32 high5, high5, middle5; cvt.rn.f32.s32 %5, high5; cvt.rn.f32.s32 t, low5; fma.rn.f32 %5, %5, 0f43800000, t;\n"
        + "shl.b32 high6, high6, 8; add.s32 high6, high6, middle6; cvt.rn.f32.s32 %6, high6; cvt.rn.f32.s32 t, low6; fma.rn.f32 %6, %6, 0f43800000, t;\n"
        + "shl.b32 high7, high7, 8; add.s32 high7, high7, middle7; cvt.rn.f32.s32 %7, high7; cvt.rn.f32.s32 t, low7; fma.rn.f32 %7, %7, 0f43800000, t;\n"
        + "shl.b32 high8, high8, 8; add.s32 high8, high8, middle8; cvt.rn.f32.s32 %8, high8; cvt.rn.f32.s32 t, low8; fma.rn.f32 %8, %8, 0f43800000, t;\n"
        + "shl.b32 high9, high9, 8; add.s32 high9, high9, middle9; cvt.rn.f32.s32 %9, high9; cvt.rn.f32.s32 t, low9; fma.rn.f32 %9, %9, 0f43800000, t;\n"
        + "shl.b32 high10, high10, 8; add.s32 high10, high10, middle10; cvt.rn.f32.s32 %10, high10; cvt.rn.f32.s32 t, low10; fma.rn.f32 %10, %10, 0f43800000, t;\n"
        + "shl.b32 high11, high11, 8; add.s32 high11, high11, middle11; cvt.rn.f32.s32 %11, high11; cvt.rn.f32.s32 t, low11; fma.rn.f32 %11, %11, 0f43800000, t;\n"
        + "shl.b32 high12, high12, 8; add.s32 high12, high12, middle12; cvt.rn.f32.s32 %12, high12; cvt.rn.f32.s32 t, low12; fma.rn.f32 %12, %12, 0f43800000, t;\n"
        + "shl.b32 high13, high13, 8; add.s32 high13, high13, middle13; cvt.rn.f32.s32 %13, high13; cvt.rn.f32.s32 t, low13; fma.rn.f32 %13, %13, 0f43800000, t;\n"
        + "shl.b32 high14, high14, 8; add.s32 high14, high14, middle14; cvt.rn.f32.s32 %14, high14; cvt.rn.f32.s32 t, low14; fma.rn.f32 %14, %14, 0f43800000, t;\n"
        + "shl.b32 high15, high15, 8; add.s32 high15, high15, middle15; cvt.rn.f32.s32 %15, high15; cvt.rn.f32.s32 t, low15; fma.rn.f32 %15, %15, 0f43800000, t;\n"
        + "}";

    /// <summary>s += Q K^T over four steps of 16 query rows and 64 keys of 16-bit numbers.</summary>
    /// <param name="s">The sums.</param>
    /// <param name="arithmetic">Halves or BFloats.</param>
    /// <param name="parts">Parts that queries are entered in: 1 or 2 halves; 2 BFloats, or 3, for which queries lie in binary32.</param>
    /// <param name="queryAt">The offset of the lane's queries.</param>
    /// <param name="keyAt">The offset of the lane's keys.</param>
    [MethodImpl(Inlined)]
    public static void Multiply(ref RowSpan s, TileArithmetic arithmetic, int parts, int queryAt, int keyAt)
    {
        Input<int> queries = queryAt;
        Input<int> keys = keyAt;
        if (arithmetic == TileArithmetic.Halves && parts == 1)
        {
            CudaAsm.EmitRef(
                Start + HalvesOfOne + HalvesOfOne + HalvesOfOne + HalvesOfOne + "}",
                ref s.Low.T0.A, ref s.Low.T0.B, ref s.Low.T0.C, ref s.Low.T0.D, ref s.Low.T1.A, ref s.Low.T1.B, ref s.Low.T1.C, ref s.Low.T1.D,
                ref s.Low.T2.A, ref s.Low.T2.B, ref s.Low.T2.C, ref s.Low.T2.D, ref s.Low.T3.A, ref s.Low.T3.B, ref s.Low.T3.C, ref s.Low.T3.D,
                ref s.High.T0.A, ref s.High.T0.B, ref s.High.T0.C, ref s.High.T0.D, ref s.High.T1.A, ref s.High.T1.B, ref s.High.T1.C, ref s.High.T1.D,
                ref s.High.T2.A, ref s.High.T2.B, ref s.High.T2.C, ref s.High.T2.D, ref s.High.T3.A, ref s.High.T3.B, ref s.High.T3.C, ref s.High.T3.D,
                ref queries, ref keys);
        }
        else if (arithmetic == TileArithmetic.Halves)
        {
            CudaAsm.EmitRef(
                Start + HalvesOfTwo + HalvesOfTwo + HalvesOfTwo + HalvesOfTwo + "}",
                ref s.Low.T0.A, ref s.Low.T0.B, ref s.Low.T0.C, ref s.Low.T0.D, ref s.Low.T1.A, ref s.Low.T1.B, ref s.Low.T1.C, ref s.Low.T1.D,
                ref s.Low.T2.A, ref s.Low.T2.B, ref s.Low.T2.C, ref s.Low.T2.D, ref s.Low.T3.A, ref s.Low.T3.B, ref s.Low.T3.C, ref s.Low.T3.D,
                ref s.High.T0.A, ref s.High.T0.B, ref s.High.T0.C, ref s.High.T0.D, ref s.High.T1.A, ref s.High.T1.B, ref s.High.T1.C, ref s.High.T1.D,
                ref s.High.T2.A, ref s.High.T2.B, ref s.High.T2.C, ref s.High.T2.D, ref s.High.T3.A, ref s.High.T3.B, ref s.High.T3.C, ref s.High.T3.D,
                ref queries, ref keys);
        }
        else if (parts == 2)
        {
            CudaAsm.EmitRef(
                Start + BFloatsOfTwo + BFloatsOfTwo + BFloatsOfTwo + BFloatsOfTwo + "}",
                ref s.Low.T0.A, ref s.Low.T0.B, ref s.Low.T0.C, ref s.Low.T0.D, ref s.Low.T1.A, ref s.Low.T1.B, ref s.Low.T1.C, ref s.Low.T1.D,
                ref s.Low.T2.A, ref s.Low.T2.B, ref s.Low.T2.C, ref s.Low.T2.D, ref s.Low.T3.A, ref s.Low.T3.B, ref s.Low.T3.C, ref s.Low.T3.D,
                ref s.High.T0.A, ref s.High.T0.B, ref s.High.T0.C, ref s.High.T0.D, ref s.High.T1.A, ref s.High.T1.B, ref s.High.T1.C, ref s.High.T1.D,
                ref s.High.T2.A, ref s.High.T2.B, ref s.High.T2.C, ref s.High.T2.D, ref s.High.T3.A, ref s.High.T3.B, ref s.High.T3.C, ref s.High.T3.D,
                ref queries, ref keys);
        }
        else
        {
            CudaAsm.EmitRef(
                Start + BFloatsOfThree + BFloatsOfThree + BFloatsOfThree + BFloatsOfThree + "}",
                ref s.Low.T0.A, ref s.Low.T0.B, ref s.Low.T0.C, ref s.Low.T0.D, ref s.Low.T1.A, ref s.Low.T1.B, ref s.Low.T1.C, ref s.Low.T1.D,
                ref s.Low.T2.A, ref s.Low.T2.B, ref s.Low.T2.C, ref s.Low.T2.D, ref s.Low.T3.A, ref s.Low.T3.B, ref s.Low.T3.C, ref s.Low.T3.D,
                ref s.High.T0.A, ref s.High.T0.B, ref s.High.T0.C, ref s.High.T0.D, ref s.High.T1.A, ref s.High.T1.B, ref s.High.T1.C, ref s.High.T1.D,
                ref s.High.T2.A, ref s.High.T2.B, ref s.High.T2.C, ref s.High.T2.D, ref s.High.T3.A, ref s.High.T3.B, ref s.High.T3.C, ref s.High.T3.D,
                ref queries, ref keys);
        }
    }

    /// <summary>s += Q K^T over one step of 16 query rows and 64 keys of 16-bit numbers.</summary>
    /// <inheritdoc cref="Multiply" path="/param"/>
    [MethodImpl(Inlined)]
    public static void MultiplyStep(ref RowSpan s, TileArithmetic arithmetic, int parts, int queryAt, int keyAt)
    {
        Input<int> queries = queryAt;
        Input<int> keys = keyAt;
        if (arithmetic == TileArithmetic.Halves && parts == 1)
        {
            CudaAsm.EmitRef(
                Start + HalvesOfOne + "}",
                ref s.Low.T0.A, ref s.Low.T0.B, ref s.Low.T0.C, ref s.Low.T0.D, ref s.Low.T1.A, ref s.Low.T1.B, ref s.Low.T1.C, ref s.Low.T1.D,
                ref s.Low.T2.A, ref s.Low.T2.B, ref s.Low.T2.C, ref s.Low.T2.D, ref s.Low.T3.A, ref s.Low.T3.B, ref s.Low.T3.C, ref s.Low.T3.D,
                ref s.High.T0.A, ref s.High.T0.B, ref s.High.T0.C, ref s.High.T0.D, ref s.High.T1.A, ref s.High.T1.B, ref s.High.T1.C, ref s.High.T1.D,
                ref s.High.T2.A, ref s.High.T2.B, ref s.High.T2.C, ref s.High.T2.D, ref s.High.T3.A, ref s.High.T3.B, ref s.High.T3.C, ref s.High.T3.D,
                ref queries, ref keys);
        }
        else if (arithmetic == TileArithmetic.Halves)
        {
            CudaAsm.EmitRef(
                Start + HalvesOfTwo + "}",
                ref s.Low.T0.A, ref s.Low.T0.B, ref s.Low.T0.C, ref s.Low.T0.D, ref s.Low.T1.A, ref s.Low.T1.B, ref s.Low.T1.C, ref s.Low.T1.D,
                ref s.Low.T2.A, ref s.Low.T2.B, ref s.Low.T2.C, ref s.Low.T2.D, ref s.Low.T3.A, ref s.Low.T3.B, ref s.Low.T3.C, ref s.Low.T3.D,
                ref s.High.T0.A, ref s.High.T0.B, ref s.High.T0.C, ref s.High.T0.D, ref s.High.T1.A, ref s.High.T1.B, ref s.High.T1.C, ref s.High.T1.D,
                ref s.High.T2.A, ref s.High.T2.B, ref s.High.T2.C, ref s.High.T2.D, ref s.High.T3.A, ref s.High.T3.B, ref s.High.T3.C, ref s.High.T3.D,
                ref queries, ref keys);
        }
        else if (parts == 2)
        {
            CudaAsm.EmitRef(
                Start + BFloatsOfTwo + "}",
                ref s.Low.T0.A, ref s.Low.T0.B, ref s.Low.T0.C, ref s.Low.T0.D, ref s.Low.T1.A, ref s.Low.T1.B, ref s.Low.T1.C, ref s.Low.T1.D,
                ref s.Low.T2.A, ref s.Low.T2.B, ref s.Low.T2.C, ref s.Low.T2.D, ref s.Low.T3.A, ref s.Low.T3.B, ref s.Low.T3.C, ref s.Low.T3.D,
                ref s.High.T0.A, ref s.High.T0.B, ref s.High.T0.C, ref s.High.T0.D, ref s.High.T1.A, ref s.High.T1.B, ref s.High.T1.C, ref s.High.T1.D,
                ref s.High.T2.A, ref s.High.T2.B, ref s.High.T2.C, ref s.High.T2.D, ref s.High.T3.A, ref s.High.T3.B, ref s.High.T3.C, ref s.High.T3.D,
                ref queries, ref keys);
        }
        else
        {
            CudaAsm.EmitRef(
                Start + BFloatsOfThree + "}",
                ref s.Low.T0.A, ref s.Low.T0.B, ref s.Low.T0.C, ref s.Low.T0.D, ref s.Low.T1.A, ref s.Low.T1.B, ref s.Low.T1.C, ref s.Low.T1.D,
                ref s.Low.T2.A, ref s.Low.T2.B, ref s.Low.T2.C, ref s.Low.T2.D, ref s.Low.T3.A, ref s.Low.T3.B, ref s.Low.T3.C, ref s.Low.T3.D,
                ref s.High.T0.A, ref s.High.T0.B, ref s.High.T0.C, ref s.High.T0.D, ref s.High.T1.A, ref s.High.T1.B, ref s.High.T1.C, ref s.High.T1.D,
                ref s.High.T2.A, ref s.High.T2.B, ref s.High.T2.C, ref s.High.T2.D, ref s.High.T3.A, ref s.High.T3.B, ref s.High.T3.C, ref s.High.T3.D,
                ref queries, ref keys);
        }
    }

    /// <summary>s = Q K^T of 16 query rows and 32 keys of signed bytes, joined from the sums of limbs.</summary>
    /// <param name="s">The sums.</param>
    /// <param name="queries">The queries: 2 or 3 limbs, whose sums begin at half of the sum of a row's whole numbers, or at 0.</param>
    /// <param name="keyAt">The offset of the lane's keys.</param>
    [MethodImpl(Inlined)]
    public static void MultiplyBytes(ref RefTiles<float> s, ByteRows queries, int keyAt)
    {
        Input<int> rows = queries.At;
        Input<int> keys = keyAt;
        Input<int> halfA = queries.HalfA;
        Input<int> halfB = queries.HalfB;
        if (queries.Limbs == 3 && queries.Steps == 4)
        {
            CudaAsm.EmitRef(
                ByteStart + BytesOfThree + BytesOfThree + BytesOfThree + BytesOfThree + Join,
                ref s.T0.A, ref s.T0.B, ref s.T0.C, ref s.T0.D, ref s.T1.A, ref s.T1.B, ref s.T1.C, ref s.T1.D,
                ref s.T2.A, ref s.T2.B, ref s.T2.C, ref s.T2.D, ref s.T3.A, ref s.T3.B, ref s.T3.C, ref s.T3.D,
                ref rows, ref keys, ref halfA, ref halfB);
        }
        else if (queries.Limbs == 3 && queries.Steps == 3)
        {
            CudaAsm.EmitRef(
                ByteStart + BytesOfThree + BytesOfThree + BytesOfThree + Join,
                ref s.T0.A, ref s.T0.B, ref s.T0.C, ref s.T0.D, ref s.T1.A, ref s.T1.B, ref s.T1.C, ref s.T1.D,
                ref s.T2.A, ref s.T2.B, ref s.T2.C, ref s.T2.D, ref s.T3.A, ref s.T3.B, ref s.T3.C, ref s.T3.D,
                ref rows, ref keys, ref halfA, ref halfB);
        }
        else if (queries.Limbs == 3)
        {
            CudaAsm.EmitRef(
                ByteStart + BytesOfThree + BytesOfThree + Join,
                ref s.T0.A, ref s.T0.B, ref s.T0.C, ref s.T0.D, ref s.T1.A, ref s.T1.B, ref s.T1.C, ref s.T1.D,
                ref s.T2.A, ref s.T2.B, ref s.T2.C, ref s.T2.D, ref s.T3.A, ref s.T3.B, ref s.T3.C, ref s.T3.D,
                ref rows, ref keys, ref halfA, ref halfB);
        }
        else if (queries.Steps == 4)
        {
            CudaAsm.EmitRef(
                ByteStart + BytesOfTwo + BytesOfTwo + BytesOfTwo + BytesOfTwo + Join,
                ref s.T0.A, ref s.T0.B, ref s.T0.C, ref s.T0.D, ref s.T1.A, ref s.T1.B, ref s.T1.C, ref s.T1.D,
                ref s.T2.A, ref s.T2.B, ref s.T2.C, ref s.T2.D, ref s.T3.A, ref s.T3.B, ref s.T3.C, ref s.T3.D,
                ref rows, ref keys, ref halfA, ref halfB);
        }
        else if (queries.Steps == 3)
        {
            CudaAsm.EmitRef(
                ByteStart + BytesOfTwo + BytesOfTwo + BytesOfTwo + Join,
                ref s.T0.A, ref s.T0.B, ref s.T0.C, ref s.T0.D, ref s.T1.A, ref s.T1.B, ref s.T1.C, ref s.T1.D,
                ref s.T2.A, ref s.T2.B, ref s.T2.C, ref s.T2.D, ref s.T3.A, ref s.T3.B, ref s.T3.C, ref s.T3.D,
                ref rows, ref keys, ref halfA, ref halfB);
        }
        else
        {
            CudaAsm.EmitRef(
                ByteStart + BytesOfTwo + BytesOfTwo + Join,
                ref s.T0.A, ref s.T0.B, ref s.T0.C, ref s.T0.D, ref s.T1.A, ref s.T1.B, ref s.T1.C, ref s.T1.D,
                ref s.T2.A, ref s.T2.B, ref s.T2.C, ref s.T2.D, ref s.T3.A, ref s.T3.B, ref s.T3.C, ref s.T3.D,
                ref rows, ref keys, ref halfA, ref halfB);
        }
    }
}
