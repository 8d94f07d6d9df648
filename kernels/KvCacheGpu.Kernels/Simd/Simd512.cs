using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using F = System.Runtime.Intrinsics.Vector512<float>;
using I = System.Runtime.Intrinsics.Vector512<int>;

namespace KvCacheGpu.Kernels;

internal unsafe struct Simd512 : ISimd<F, I>
{
    // Of VREDUCEPS: no bits of the fraction stay with the whole number, which is rounded down.
    private const byte RoundingDown = 1;

    public static int Lanes => 512 / 32;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Load(float* p) => Vector512.Load(p);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(float* p, F value) => value.Store(p);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I LoadInt(int* p) => Vector512.Load(p);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreInt(int* p, I value) => value.Store(p);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I WidenInt16(short* p) => Vector512.WidenLower(Vector256.Load(p).ToVector512Unsafe());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I WidenInt8(sbyte* p) => Vector512.WidenLower(Vector256.WidenLower(Vector128.Load(p).ToVector256Unsafe()).ToVector512Unsafe());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F All(float value) => Vector512.Create(value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I AllInt(int value) => Vector512.Create(value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Add(F a, F b) => a + b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Subtract(F a, F b) => a - b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Multiply(F a, F b) => a * b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Divide(F a, F b) => a / b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F MultiplyAdd(F a, F b, F c) => Vector512.MultiplyAddEstimate(a, b, c);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Max(F a, F b) => Vector512.MaxNative(a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Min(F a, F b) => Vector512.MinNative(a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Abs(F a) => Vector512.Abs(a);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I AddInt(I a, I b) => a + b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I MaxInt(I a, I b) => Vector512.Max(a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I And(I a, I b) => a & b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I Or(I a, I b) => a | b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I ShiftLeft(I a, int count) => a << count;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I ShiftRight(I a, int count) => a >> count;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F ToFloat(I a) => Vector512.ConvertToSingle(a);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F AsFloat(I a) => a.AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I AsInt(F a) => a.AsInt32();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F IfLess(F a, F b, F yes, F no) => Vector512.ConditionalSelect(Vector512.LessThan(a, b), yes, no);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Index() => Vector512.ConvertToSingle(Vector512<int>.Indices);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> SumsOf(F a, F b, F c, F d) => Simd256.SumsOf(
        a.GetLower() + a.GetUpper(), b.GetLower() + b.GetUpper(), c.GetLower() + c.GetUpper(), d.GetLower() + d.GetUpper());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> LargestOf(F a, F b, F c, F d) => Simd256.LargestOf(
        Vector256.MaxNative(a.GetLower(), a.GetUpper()),
        Vector256.MaxNative(b.GetLower(), b.GetUpper()),
        Vector256.MaxNative(c.GetLower(), c.GetUpper()),
        Vector256.MaxNative(d.GetLower(), d.GetUpper()));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I Indices() => Vector512<int>.Indices;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I RepeatPair(byte* p) => Vector512.Create(*(long*)p).AsInt32();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I ShiftRightEach(I a, I counts) => Avx512F.IsSupported ? Avx512F.ShiftRightLogicalVariable(a, counts.AsUInt32()) : Each(a, counts);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I AndXor(I a, I mask, I flip) => Avx512F.IsSupported ? Avx512F.TernaryLogic(a, mask, flip, 0x6A) : (a & mask) ^ flip;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I Select(I mask, I a, I b) => Vector512.ConditionalSelect(mask, a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F UnsignedToFloat(I a) => Vector512.ConvertToSingle(a.AsUInt32());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Lookup(float* table, F low, F high, I index) => Avx512F.IsSupported ? Avx512F.PermuteVar16x32(low, index) : Vector512.Shuffle(low, index & Vector512.Create(15));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Scale(F a, F n) => Avx512F.IsSupported ? Avx512F.Scale(a, n) : Power(a, n);

    public static bool HasFraction => Avx512DQ.IsSupported;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Fraction(F a) => Avx512DQ.Reduce(a, RoundingDown);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static I Each(I a, I counts)
    {
        I shifted = default;
        for (int lane = 0; lane < Lanes; lane++)
        {
            shifted = shifted.WithElement(lane, a[lane] >>> counts[lane]);
        }

        return shifted;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static F Power(F a, F n)
    {
        F power = ((Vector512.ConvertToInt32(Vector512.Max(n, Vector512.Create(-127f))) + Vector512.Create(127)) << 23).AsSingle();
        return a * power;
    }

    public static bool HasPairs => Avx512BW.IsSupported;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I MultiplyPairs(I a, I b) => Avx512BW.MultiplyAddAdjacent(a.AsInt16(), b.AsInt16());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I EvenBytes(I a) => ((a.AsInt16() << 8) >> 8).AsInt32();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I OddBytes(I a) => (a.AsInt16() >> 8).AsInt32();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I LookupBytes(I table, I index) => Avx512BW.Shuffle(table.AsByte(), index.AsByte()).AsInt32();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I RepeatBytes(byte* p) => Vector512.Create(Vector256.Create(Vector128.Load(p), Vector128.Load(p)), Vector256.Create(Vector128.Load(p), Vector128.Load(p))).AsInt32();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I InterleaveShorts(byte* a, byte* b) => Avx512BW.PermuteVar32x16(
        Avx512F.InsertVector256(Vector256.Load((int*)a).ToVector512Unsafe(), Vector256.Load((int*)b), 1).AsUInt16(),
        Vector512.Create((ushort)0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)).AsInt32();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I InterleaveHalves(byte* a, byte* b) => Avx512BW.PermuteVar32x16(
        Avx512F.InsertVector256(Vector256.Load((int*)a).ToVector512Unsafe(), Vector256.Load((int*)b), 1).AsUInt16(),
        Vector512.Create((ushort)0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)).AsInt32();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I Round(F a) => Avx512F.ConvertToVector512Int32(a);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (F Low, F High) Zip(F a, F b) => (
        Avx512F.PermuteVar16x32x2(a, Vector512.Create(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23), b),
        Avx512F.PermuteVar16x32x2(a, Vector512.Create(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31), b));

    public static bool PicksFrom32 => Avx512F.IsSupported;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Pick32(F low, F high, I index) => Avx512F.PermuteVar16x32x2(low, index, high);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Butterfly(F x, int half) => half switch
    {
        1 => MultiplyAdd(x, Signs(1f, -1, 1, -1), Vector512.Shuffle(x, Vector512.Create(1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14))),
        2 => MultiplyAdd(x, Signs(1f, 1, -1, -1), Vector512.Shuffle(x, Vector512.Create(2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13))),
        4 => MultiplyAdd(
            x,
            Vector512.Create(1f, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1),
            Vector512.Shuffle(x, Vector512.Create(4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11))),
        8 => MultiplyAdd(
            x,
            Vector512.Create(1f, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1),
            Vector512.Shuffle(x, Vector512.Create(8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7))),
        _ => x,
    };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Sqrt(F a) => Vector512.Sqrt(a);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I CountAbove(I count, F boundary, F x) => count - Vector512.LessThan(boundary, x).AsInt32();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreBytes(byte* p, I value)
    {
        if (Avx512F.IsSupported)
        {
            Avx512F.ConvertToVector128Byte(value.AsUInt32()).Store(p);
            return;
        }

        Simd256.StoreBytes(p, value.GetLower());
        Simd256.StoreBytes(p + 8, value.GetUpper());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreShorts(ushort* p, I value)
    {
        if (Avx512F.IsSupported)
        {
            Avx512F.ConvertToVector256UInt16(value.AsUInt32()).Store(p);
            return;
        }

        Simd256.StoreShorts(p, value.GetLower());
        Simd256.StoreShorts(p + 8, value.GetUpper());
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Transpose(int* from, nint fromStride, int* to, nint toStride)
    {
        if (!Avx512F.IsSupported)
        {
            for (int i = 0; i < Lanes * Lanes; i++)
            {
                to[(i % Lanes * toStride) + (i / Lanes)] = from[(i / Lanes * fromStride) + (i % Lanes)];
            }

            return;
        }

        (I a0, I a1, I a2, I a3) = Four(from, fromStride);
        (I b0, I b1, I b2, I b3) = Four(from + (4 * fromStride), fromStride);
        (I c0, I c1, I c2, I c3) = Four(from + (8 * fromStride), fromStride);
        (I d0, I d1, I d2, I d3) = Four(from + (12 * fromStride), fromStride);
        StoreColumns(a0, b0, c0, d0, to, 4 * toStride);
        StoreColumns(a1, b1, c1, d1, to + toStride, 4 * toStride);
        StoreColumns(a2, b2, c2, d2, to + (2 * toStride), 4 * toStride);
        StoreColumns(a3, b3, c3, d3, to + (3 * toStride), 4 * toStride);
    }

    // Four registers, transposed inside each 128 bits.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (I A, I B, I C, I D) Four(int* from, nint stride)
    {
        I r0 = Vector512.Load(from), r1 = Vector512.Load(from + stride);
        I r2 = Vector512.Load(from + (2 * stride)), r3 = Vector512.Load(from + (3 * stride));
        Vector512<long> low01 = Avx512F.UnpackLow(r0, r1).AsInt64(), high01 = Avx512F.UnpackHigh(r0, r1).AsInt64();
        Vector512<long> low23 = Avx512F.UnpackLow(r2, r3).AsInt64(), high23 = Avx512F.UnpackHigh(r2, r3).AsInt64();
        return (Avx512F.UnpackLow(low01, low23).AsInt32(), Avx512F.UnpackHigh(low01, low23).AsInt32(),
            Avx512F.UnpackLow(high01, high23).AsInt32(), Avx512F.UnpackHigh(high01, high23).AsInt32());
    }

    // 128-bit lane n of each of the four is one quarter of column n.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreColumns(I a, I b, I c, I d, int* to, nint stride)
    {
        I even01 = Avx512F.Shuffle4x128(a, b, 0x88), odd01 = Avx512F.Shuffle4x128(a, b, 0xDD);
        I even23 = Avx512F.Shuffle4x128(c, d, 0x88), odd23 = Avx512F.Shuffle4x128(c, d, 0xDD);
        Avx512F.Shuffle4x128(even01, even23, 0x88).Store(to);
        Avx512F.Shuffle4x128(odd01, odd23, 0x88).Store(to + stride);
        Avx512F.Shuffle4x128(even01, even23, 0xDD).Store(to + (2 * stride));
        Avx512F.Shuffle4x128(odd01, odd23, 0xDD).Store(to + (3 * stride));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static F Signs(float a, float b, float c, float d) => Vector512.Create(a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d);
}
