using System.Runtime.CompilerServices;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Sums of mma in registers that have names in the kernel's code. ILGPU returns one result from an instruction at most and puts whatever else it gives into local
/// memory, from where only the last compiler in the chain takes it away again: with sums as its variables a kernel is three times as long, and compiles as much slower.
/// </summary>
/// <remarks>Names belong to a kernel: it declares them once (<see cref="SumTiles.Declare"/>), and two sums of one name must not be in use at once.</remarks>
internal static class SumTiles
{
    public const string Halves = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 ";
    public const string BFloats = "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 ";
    public const string Bytes = "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 ";
    public const string Operands = ", {%0,%1,%2,%3}, {%4,%5}, ";

    /// <summary>The registers of all tiles.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Declare() => CudaAsm.Emit(".reg .f32 sum<20>; .reg .s32 whole<24>;");

    /// <summary>Halves the sums of <see cref="SumTile4"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Halve4() =>
        CudaAsm.Emit("mul.f32 sum16, sum16, 0f3F000000; mul.f32 sum17, sum17, 0f3F000000; mul.f32 sum18, sum18, 0f3F000000; mul.f32 sum19, sum19, 0f3F000000;");
}

/// <summary>
/// Sums of 16 rows and 8 columns. Lane 4 g + q has of row g the columns 2 q and 2 q + 1 (A, B), of row g + 8 the same two (C, D).
/// </summary>
internal interface ISumTile
{
    void Clear();

    /// <summary>Begins at the sums of <see cref="SumTile4"/>.</summary>
    void Copy4();

    /// <summary>Adds the product of 16 by 16 and 16 by 8 binary16 numbers.</summary>
    void AddHalves(Words4 a, Words2 b);

    /// <summary>The same of bfloat16 numbers.</summary>
    void AddBFloats(Words4 a, Words2 b);

    Floats4 Take();
}

/// <summary>Sums of whole numbers, 16 rows and 8 columns as in <see cref="ISumTile"/>.</summary>
internal interface IWholeTile
{
    /// <summary>Begins at other sums.</summary>
    void Start(IntTile sums);

    /// <summary>Adds the product of 16 by 32 and 32 by 8 signed bytes.</summary>
    void Add(Words4 a, Words2 b);

    IntTile Take();
}

internal readonly struct SumTile0 : ISumTile
{
    private const string Sums = "{sum0,sum1,sum2,sum3}";

    public void Copy4() => CudaAsm.Emit("mov.f32 sum0, sum16; mov.f32 sum1, sum17; mov.f32 sum2, sum18; mov.f32 sum3, sum19;");

    public void Clear() => CudaAsm.Emit("mov.f32 sum0, 0f00000000; mov.f32 sum1, 0f00000000; mov.f32 sum2, 0f00000000; mov.f32 sum3, 0f00000000;");

    public void AddHalves(Words4 a, Words2 b) => CudaAsm.Emit(SumTiles.Halves + Sums + SumTiles.Operands + Sums + ";", a.X, a.Y, a.Z, a.W, b.X, b.Y);

    public void AddBFloats(Words4 a, Words2 b) => CudaAsm.Emit(SumTiles.BFloats + Sums + SumTiles.Operands + Sums + ";", a.X, a.Y, a.Z, a.W, b.X, b.Y);

    public Floats4 Take()
    {
        CudaAsm.Emit("mov.f32 %0, sum0;", out float a);
        CudaAsm.Emit("mov.f32 %0, sum1;", out float b);
        CudaAsm.Emit("mov.f32 %0, sum2;", out float c);
        CudaAsm.Emit("mov.f32 %0, sum3;", out float d);
        Floats4 sums = default;
        (sums.A, sums.B, sums.C, sums.D) = (a, b, c, d);
        return sums;
    }
}

internal readonly struct SumTile1 : ISumTile
{
    private const string Sums = "{sum4,sum5,sum6,sum7}";

    public void Copy4() => CudaAsm.Emit("mov.f32 sum4, sum16; mov.f32 sum5, sum17; mov.f32 sum6, sum18; mov.f32 sum7, sum19;");

    public void Clear() => CudaAsm.Emit("mov.f32 sum4, 0f00000000; mov.f32 sum5, 0f00000000; mov.f32 sum6, 0f00000000; mov.f32 sum7, 0f00000000;");

    public void AddHalves(Words4 a, Words2 b) => CudaAsm.Emit(SumTiles.Halves + Sums + SumTiles.Operands + Sums + ";", a.X, a.Y, a.Z, a.W, b.X, b.Y);

    public void AddBFloats(Words4 a, Words2 b) => CudaAsm.Emit(SumTiles.BFloats + Sums + SumTiles.Operands + Sums + ";", a.X, a.Y, a.Z, a.W, b.X, b.Y);

    public Floats4 Take()
    {
        CudaAsm.Emit("mov.f32 %0, sum4;", out float a);
        CudaAsm.Emit("mov.f32 %0, sum5;", out float b);
        CudaAsm.Emit("mov.f32 %0, sum6;", out float c);
        CudaAsm.Emit("mov.f32 %0, sum7;", out float d);
        Floats4 sums = default;
        (sums.A, sums.B, sums.C, sums.D) = (a, b, c, d);
        return sums;
    }
}

internal readonly struct SumTile2 : ISumTile
{
    private const string Sums = "{sum8,sum9,sum10,sum11}";

    public void Copy4() => CudaAsm.Emit("mov.f32 sum8, sum16; mov.f32 sum9, sum17; mov.f32 sum10, sum18; mov.f32 sum11, sum19;");

    public void Clear() => CudaAsm.Emit("mov.f32 sum8, 0f00000000; mov.f32 sum9, 0f00000000; mov.f32 sum10, 0f00000000; mov.f32 sum11, 0f00000000;");

    public void AddHalves(Words4 a, Words2 b) => CudaAsm.Emit(SumTiles.Halves + Sums + SumTiles.Operands + Sums + ";", a.X, a.Y, a.Z, a.W, b.X, b.Y);

    public void AddBFloats(Words4 a, Words2 b) => CudaAsm.Emit(SumTiles.BFloats + Sums + SumTiles.Operands + Sums + ";", a.X, a.Y, a.Z, a.W, b.X, b.Y);

    public Floats4 Take()
    {
        CudaAsm.Emit("mov.f32 %0, sum8;", out float a);
        CudaAsm.Emit("mov.f32 %0, sum9;", out float b);
        CudaAsm.Emit("mov.f32 %0, sum10;", out float c);
        CudaAsm.Emit("mov.f32 %0, sum11;", out float d);
        Floats4 sums = default;
        (sums.A, sums.B, sums.C, sums.D) = (a, b, c, d);
        return sums;
    }
}

internal readonly struct SumTile3 : ISumTile
{
    private const string Sums = "{sum12,sum13,sum14,sum15}";

    public void Copy4() => CudaAsm.Emit("mov.f32 sum12, sum16; mov.f32 sum13, sum17; mov.f32 sum14, sum18; mov.f32 sum15, sum19;");

    public void Clear() => CudaAsm.Emit("mov.f32 sum12, 0f00000000; mov.f32 sum13, 0f00000000; mov.f32 sum14, 0f00000000; mov.f32 sum15, 0f00000000;");

    public void AddHalves(Words4 a, Words2 b) => CudaAsm.Emit(SumTiles.Halves + Sums + SumTiles.Operands + Sums + ";", a.X, a.Y, a.Z, a.W, b.X, b.Y);

    public void AddBFloats(Words4 a, Words2 b) => CudaAsm.Emit(SumTiles.BFloats + Sums + SumTiles.Operands + Sums + ";", a.X, a.Y, a.Z, a.W, b.X, b.Y);

    public Floats4 Take()
    {
        CudaAsm.Emit("mov.f32 %0, sum12;", out float a);
        CudaAsm.Emit("mov.f32 %0, sum13;", out float b);
        CudaAsm.Emit("mov.f32 %0, sum14;", out float c);
        CudaAsm.Emit("mov.f32 %0, sum15;", out float d);
        Floats4 sums = default;
        (sums.A, sums.B, sums.C, sums.D) = (a, b, c, d);
        return sums;
    }
}

internal readonly struct SumTile4 : ISumTile
{
    private const string Sums = "{sum16,sum17,sum18,sum19}";

    public void Copy4() => CudaAsm.Emit("mov.f32 sum16, sum16; mov.f32 sum17, sum17; mov.f32 sum18, sum18; mov.f32 sum19, sum19;");

    public void Clear() => CudaAsm.Emit("mov.f32 sum16, 0f00000000; mov.f32 sum17, 0f00000000; mov.f32 sum18, 0f00000000; mov.f32 sum19, 0f00000000;");

    public void AddHalves(Words4 a, Words2 b) => CudaAsm.Emit(SumTiles.Halves + Sums + SumTiles.Operands + Sums + ";", a.X, a.Y, a.Z, a.W, b.X, b.Y);

    public void AddBFloats(Words4 a, Words2 b) => CudaAsm.Emit(SumTiles.BFloats + Sums + SumTiles.Operands + Sums + ";", a.X, a.Y, a.Z, a.W, b.X, b.Y);

    public Floats4 Take()
    {
        CudaAsm.Emit("mov.f32 %0, sum16;", out float a);
        CudaAsm.Emit("mov.f32 %0, sum17;", out float b);
        CudaAsm.Emit("mov.f32 %0, sum18;", out float c);
        CudaAsm.Emit("mov.f32 %0, sum19;", out float d);
        Floats4 sums = default;
        (sums.A, sums.B, sums.C, sums.D) = (a, b, c, d);
        return sums;
    }
}

internal readonly struct WholeTile0 : IWholeTile
{
    private const string Sums = "{whole0,whole1,whole2,whole3}";

    public void Start(IntTile sums) => CudaAsm.Emit("mov.s32 whole0, %0; mov.s32 whole1, %1; mov.s32 whole2, %2; mov.s32 whole3, %3;", sums.A, sums.B, sums.C, sums.D);

    public void Add(Words4 a, Words2 b) => CudaAsm.Emit(SumTiles.Bytes + Sums + SumTiles.Operands + Sums + ";", a.X, a.Y, a.Z, a.W, b.X, b.Y);

    public IntTile Take()
    {
        CudaAsm.Emit("mov.s32 %0, whole0;", out int a);
        CudaAsm.Emit("mov.s32 %0, whole1;", out int b);
        CudaAsm.Emit("mov.s32 %0, whole2;", out int c);
        CudaAsm.Emit("mov.s32 %0, whole3;", out int d);
        IntTile sums = default;
        (sums.A, sums.B, sums.C, sums.D) = (a, b, c, d);
        return sums;
    }
}

internal readonly struct WholeTile1 : IWholeTile
{
    private const string Sums = "{whole4,whole5,whole6,whole7}";

    public void Start(IntTile sums) => CudaAsm.Emit("mov.s32 whole4, %0; mov.s32 whole5, %1; mov.s32 whole6, %2; mov.s32 whole7, %3;", sums.A, sums.B, sums.C, sums.D);

    public void Add(Words4 a, Words2 b) => CudaAsm.Emit(SumTiles.Bytes + Sums + SumTiles.Operands + Sums + ";", a.X, a.Y, a.Z, a.W, b.X, b.Y);

    public IntTile Take()
    {
        CudaAsm.Emit("mov.s32 %0, whole4;", out int a);
        CudaAsm.Emit("mov.s32 %0, whole5;", out int b);
        CudaAsm.Emit("mov.s32 %0, whole6;", out int c);
        CudaAsm.Emit("mov.s32 %0, whole7;", out int d);
        IntTile sums = default;
        (sums.A, sums.B, sums.C, sums.D) = (a, b, c, d);
        return sums;
    }
}

internal readonly struct WholeTile2 : IWholeTile
{
    private const string Sums = "{whole8,whole9,whole10,whole11}";

    public void Start(IntTile sums) => CudaAsm.Emit("mov.s32 whole8, %0; mov.s32 whole9, %1; mov.s32 whole10, %2; mov.s32 whole11, %3;", sums.A, sums.B, sums.C, sums.D);

    public void Add(Words4 a, Words2 b) => CudaAsm.Emit(SumTiles.Bytes + Sums + SumTiles.Operands + Sums + ";", a.X, a.Y, a.Z, a.W, b.X, b.Y);

    public IntTile Take()
    {
        CudaAsm.Emit("mov.s32 %0, whole8;", out int a);
        CudaAsm.Emit("mov.s32 %0, whole9;", out int b);
        CudaAsm.Emit("mov.s32 %0, whole10;", out int c);
        CudaAsm.Emit("mov.s32 %0, whole11;", out int d);
        IntTile sums = default;
        (sums.A, sums.B, sums.C, sums.D) = (a, b, c, d);
        return sums;
    }
}

internal readonly struct WholeTile3 : IWholeTile
{
    private const string Sums = "{whole12,whole13,whole14,whole15}";

    public void Start(IntTile sums) => CudaAsm.Emit("mov.s32 whole12, %0; mov.s32 whole13, %1; mov.s32 whole14, %2; mov.s32 whole15, %3;", sums.A, sums.B, sums.C, sums.D);

    public void Add(Words4 a, Words2 b) => CudaAsm.Emit(SumTiles.Bytes + Sums + SumTiles.Operands + Sums + ";", a.X, a.Y, a.Z, a.W, b.X, b.Y);

    public IntTile Take()
    {
        CudaAsm.Emit("mov.s32 %0, whole12;", out int a);
        CudaAsm.Emit("mov.s32 %0, whole13;", out int b);
        CudaAsm.Emit("mov.s32 %0, whole14;", out int c);
        CudaAsm.Emit("mov.s32 %0, whole15;", out int d);
        IntTile sums = default;
        (sums.A, sums.B, sums.C, sums.D) = (a, b, c, d);
        return sums;
    }
}

internal readonly struct WholeTile4 : IWholeTile
{
    private const string Sums = "{whole16,whole17,whole18,whole19}";

    public void Start(IntTile sums) => CudaAsm.Emit("mov.s32 whole16, %0; mov.s32 whole17, %1; mov.s32 whole18, %2; mov.s32 whole19, %3;", sums.A, sums.B, sums.C, sums.D);

    public void Add(Words4 a, Words2 b) => CudaAsm.Emit(SumTiles.Bytes + Sums + SumTiles.Operands + Sums + ";", a.X, a.Y, a.Z, a.W, b.X, b.Y);

    public IntTile Take()
    {
        CudaAsm.Emit("mov.s32 %0, whole16;", out int a);
        CudaAsm.Emit("mov.s32 %0, whole17;", out int b);
        CudaAsm.Emit("mov.s32 %0, whole18;", out int c);
        CudaAsm.Emit("mov.s32 %0, whole19;", out int d);
        IntTile sums = default;
        (sums.A, sums.B, sums.C, sums.D) = (a, b, c, d);
        return sums;
    }
}

internal readonly struct WholeTile5 : IWholeTile
{
    private const string Sums = "{whole20,whole21,whole22,whole23}";

    public void Start(IntTile sums) => CudaAsm.Emit("mov.s32 whole20, %0; mov.s32 whole21, %1; mov.s32 whole22, %2; mov.s32 whole23, %3;", sums.A, sums.B, sums.C, sums.D);

    public void Add(Words4 a, Words2 b) => CudaAsm.Emit(SumTiles.Bytes + Sums + SumTiles.Operands + Sums + ";", a.X, a.Y, a.Z, a.W, b.X, b.Y);

    public IntTile Take()
    {
        CudaAsm.Emit("mov.s32 %0, whole20;", out int a);
        CudaAsm.Emit("mov.s32 %0, whole21;", out int b);
        CudaAsm.Emit("mov.s32 %0, whole22;", out int c);
        CudaAsm.Emit("mov.s32 %0, whole23;", out int d);
        IntTile sums = default;
        (sums.A, sums.B, sums.C, sums.D) = (a, b, c, d);
        return sums;
    }
}
