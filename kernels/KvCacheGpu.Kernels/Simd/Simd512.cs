using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using F = System.Runtime.Intrinsics.Vector512<float>;
using I = System.Runtime.Intrinsics.Vector512<int>;

namespace KvCacheGpu.Kernels;

internal unsafe partial struct Simd512 : ISimd<F, I>
{
    // 1.5 * 2^23: adding it leaves the rounded integer in the low bits of the sum.
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

    private static I Each(I a, I counts)
    {
        I shifted = default;
        for (int lane = 0; lane < Lanes; lane++)
        {
            shifted = shifted.WithElement(lane, a[lane] >>> counts[lane]);
        }

        return shifted;
    }

    private static F Power(F a, F n)
    {
        F power = ((Vector512.ConvertToInt32(Vector512.Max(n, Vector512.Create(-127f))) + Vector512.Create(127)) << 23).AsSingle();
        return a * power;
    }
}
