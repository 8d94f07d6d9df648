using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using F = System.Runtime.Intrinsics.Vector256<float>;
using I = System.Runtime.Intrinsics.Vector256<int>;

namespace KvCacheGpu.Kernels;

internal unsafe struct Simd256 : ISimd<F, I>
{
    public static int Lanes => 256 / 32;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Load(float* p) => Vector256.Load(p);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(float* p, F value) => value.Store(p);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I LoadInt(int* p) => Vector256.Load(p);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreInt(int* p, I value) => value.Store(p);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I WidenInt16(short* p) => Vector256.WidenLower(Vector128.Load(p).ToVector256Unsafe());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I WidenInt8(sbyte* p) => Vector256.WidenLower(Vector128.WidenLower(Vector128.CreateScalarUnsafe(*(long*)p).AsSByte()).ToVector256Unsafe());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F All(float value) => Vector256.Create(value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I AllInt(int value) => Vector256.Create(value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Add(F a, F b) => a + b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Subtract(F a, F b) => a - b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Multiply(F a, F b) => a * b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Divide(F a, F b) => a / b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F MultiplyAdd(F a, F b, F c) => Vector256.MultiplyAddEstimate(a, b, c);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Max(F a, F b) => Vector256.MaxNative(a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Min(F a, F b) => Vector256.MinNative(a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Abs(F a) => Vector256.Abs(a);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I AddInt(I a, I b) => a + b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I MaxInt(I a, I b) => Vector256.Max(a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I And(I a, I b) => a & b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I Or(I a, I b) => a | b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I ShiftLeft(I a, int count) => a << count;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I ShiftRight(I a, int count) => a >> count;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F ToFloat(I a) => Vector256.ConvertToSingle(a);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F AsFloat(I a) => a.AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I AsInt(F a) => a.AsInt32();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F IfLess(F a, F b, F yes, F no) => Vector256.ConditionalSelect(Vector256.LessThan(a, b), yes, no);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Index() => Vector256.ConvertToSingle(Vector256<int>.Indices);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> SumsOf(F a, F b, F c, F d)
    {
        (Vector128<float> x, Vector128<float> y, Vector128<float> z, Vector128<float> w) = Columns(
            a.GetLower() + a.GetUpper(), b.GetLower() + b.GetUpper(), c.GetLower() + c.GetUpper(), d.GetLower() + d.GetUpper());
        return (x + y) + (z + w);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> LargestOf(F a, F b, F c, F d)
    {
        (Vector128<float> x, Vector128<float> y, Vector128<float> z, Vector128<float> w) = Columns(
            Vector128.MaxNative(a.GetLower(), a.GetUpper()),
            Vector128.MaxNative(b.GetLower(), b.GetUpper()),
            Vector128.MaxNative(c.GetLower(), c.GetUpper()),
            Vector128.MaxNative(d.GetLower(), d.GetUpper()));
        return Vector128.MaxNative(Vector128.MaxNative(x, y), Vector128.MaxNative(z, w));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I Indices() => Vector256<int>.Indices;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I RepeatPair(byte* p) => Vector256.Create(*(long*)p).AsInt32();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I ShiftRightEach(I a, I counts) => Avx2.IsSupported ? Avx2.ShiftRightLogicalVariable(a, counts.AsUInt32()) : Each(a, counts);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I AndXor(I a, I mask, I flip) => (a & mask) ^ flip;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I Select(I mask, I a, I b) => Vector256.ConditionalSelect(mask, a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F UnsignedToFloat(I a) => Vector256.ConvertToSingle(a);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Lookup(float* table, F low, F high, I index)
    {
        if (Avx2.IsSupported)
        {
            // Permutes read three bits of the index; the fourth, moved into the sign, picks the half.
            F upper = Avx2.PermuteVar8x32(high, index);
            return Avx.BlendVariable(Avx2.PermuteVar8x32(low, index), upper, (index << 28).AsSingle());
        }

        F found = default;
        for (int lane = 0; lane < Lanes; lane++)
        {
            found = found.WithElement(lane, table[index[lane] & 15]);
        }

        return found;
    }

    public static bool HasFraction => false;

    public static F Fraction(F a) => throw new NotSupportedException();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Scale(F a, F n)
    {
        F power = ((Vector256.ConvertToInt32Native(Vector256.MaxNative(n, Vector256.Create(-127f))) + Vector256.Create(127)) << 23).AsSingle();
        return a * power;
    }

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

    // Lane n of each of the four.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector128<float> X, Vector128<float> Y, Vector128<float> Z, Vector128<float> W) Columns(
        Vector128<float> a, Vector128<float> b, Vector128<float> c, Vector128<float> d)
    {
        if (!Sse.IsSupported)
        {
            return (Vector128.Create(a[0], b[0], c[0], d[0]), Vector128.Create(a[1], b[1], c[1], d[1]),
                Vector128.Create(a[2], b[2], c[2], d[2]), Vector128.Create(a[3], b[3], c[3], d[3]));
        }

        Vector128<float> lowAb = Sse.UnpackLow(a, b), lowCd = Sse.UnpackLow(c, d);
        Vector128<float> highAb = Sse.UnpackHigh(a, b), highCd = Sse.UnpackHigh(c, d);
        return (Sse.MoveLowToHigh(lowAb, lowCd), Sse.MoveHighToLow(lowCd, lowAb), Sse.MoveLowToHigh(highAb, highCd), Sse.MoveHighToLow(highCd, highAb));
    }

    public static bool HasPairs => Avx2.IsSupported;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I MultiplyPairs(I a, I b) => Avx2.MultiplyAddAdjacent(a.AsInt16(), b.AsInt16());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I EvenBytes(I a) => ((a.AsInt16() << 8) >> 8).AsInt32();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I OddBytes(I a) => (a.AsInt16() >> 8).AsInt32();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I LookupBytes(I table, I index) => Avx2.Shuffle(table.AsByte(), index.AsByte()).AsInt32();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I RepeatBytes(byte* p) => Vector256.Create(Vector128.Load(p), Vector128.Load(p)).AsInt32();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I InterleaveShorts(byte* a, byte* b)
    {
        Vector128<short> x = Vector128.Load((short*)a), y = Vector128.Load((short*)b);
        return Vector256.Create(Sse2.UnpackLow(x, y), Sse2.UnpackHigh(x, y)).AsInt32();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I InterleaveHalves(byte* a, byte* b)
    {
        const byte EvenThenOdd = 0b_11_01_10_00;
        Vector128<short> x = Sse2.Shuffle(Vector128.Load((int*)a), EvenThenOdd).AsInt16(), y = Sse2.Shuffle(Vector128.Load((int*)b), EvenThenOdd).AsInt16();
        return Vector256.Create(Sse2.UnpackLow(x, y), Sse2.UnpackHigh(x, y)).AsInt32();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I Round(F a) => Avx.ConvertToVector256Int32(a);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (F Low, F High) Zip(F a, F b)
    {
        F low = Avx.UnpackLow(a, b), high = Avx.UnpackHigh(a, b);
        return (Avx.Permute2x128(low, high, 0x20), Avx.Permute2x128(low, high, 0x31));
    }

    public static bool PicksFrom32 => false;

    public static F Pick32(F low, F high, I index) => throw new NotSupportedException();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Butterfly(F x, int half) => half switch
    {
        1 => MultiplyAdd(x, Vector256.Create(1f, -1, 1, -1, 1, -1, 1, -1), Vector256.Shuffle(x, Vector256.Create(1, 0, 3, 2, 5, 4, 7, 6))),
        2 => MultiplyAdd(x, Vector256.Create(1f, 1, -1, -1, 1, 1, -1, -1), Vector256.Shuffle(x, Vector256.Create(2, 3, 0, 1, 6, 7, 4, 5))),
        4 => MultiplyAdd(x, Vector256.Create(1f, 1, 1, 1, -1, -1, -1, -1), Vector256.Shuffle(x, Vector256.Create(4, 5, 6, 7, 0, 1, 2, 3))),
        _ => x,
    };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static F Sqrt(F a) => Vector256.Sqrt(a);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static I CountAbove(I count, F boundary, F x) => count - Vector256.LessThan(boundary, x).AsInt32();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreBytes(byte* p, I value)
    {
        Vector256<int> low = value & Vector256.Create(0xFF);
        Vector128<ushort> words = Vector128.Narrow(low.GetLower(), low.GetUpper()).AsUInt16();
        *(ulong*)p = Vector128.Narrow(words, words).AsUInt64()[0];
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreShorts(ushort* p, I value)
    {
        Vector256<int> low = value & Vector256.Create(0xFFFF);
        Vector128.Narrow(low.GetLower(), low.GetUpper()).AsUInt16().Store(p);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Transpose(int* from, nint fromStride, int* to, nint toStride)
    {
        if (!Avx2.IsSupported)
        {
            for (int i = 0; i < Lanes * Lanes; i++)
            {
                to[(i % Lanes * toStride) + (i / Lanes)] = from[(i / Lanes * fromStride) + (i % Lanes)];
            }

            return;
        }

        (I a0, I a1, I a2, I a3) = Four(from, fromStride);
        (I b0, I b1, I b2, I b3) = Four(from + (4 * fromStride), fromStride);
        Avx2.Permute2x128(a0, b0, 0x20).Store(to);
        Avx2.Permute2x128(a1, b1, 0x20).Store(to + toStride);
        Avx2.Permute2x128(a2, b2, 0x20).Store(to + (2 * toStride));
        Avx2.Permute2x128(a3, b3, 0x20).Store(to + (3 * toStride));
        to += 4 * toStride;
        Avx2.Permute2x128(a0, b0, 0x31).Store(to);
        Avx2.Permute2x128(a1, b1, 0x31).Store(to + toStride);
        Avx2.Permute2x128(a2, b2, 0x31).Store(to + (2 * toStride));
        Avx2.Permute2x128(a3, b3, 0x31).Store(to + (3 * toStride));
    }

    // Four registers, transposed inside each 128 bits.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (I A, I B, I C, I D) Four(int* from, nint stride)
    {
        I r0 = Vector256.Load(from), r1 = Vector256.Load(from + stride);
        I r2 = Vector256.Load(from + (2 * stride)), r3 = Vector256.Load(from + (3 * stride));
        Vector256<long> low01 = Avx2.UnpackLow(r0, r1).AsInt64(), high01 = Avx2.UnpackHigh(r0, r1).AsInt64();
        Vector256<long> low23 = Avx2.UnpackLow(r2, r3).AsInt64(), high23 = Avx2.UnpackHigh(r2, r3).AsInt64();
        return (Avx2.UnpackLow(low01, low23).AsInt32(), Avx2.UnpackHigh(low01, low23).AsInt32(),
            Avx2.UnpackLow(high01, high23).AsInt32(), Avx2.UnpackHigh(high01, high23).AsInt32());
    }
}
