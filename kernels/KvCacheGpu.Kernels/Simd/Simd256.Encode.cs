using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using F = System.Runtime.Intrinsics.Vector256<float>;
using I = System.Runtime.Intrinsics.Vector256<int>;

namespace KvCacheGpu.Kernels;

internal unsafe partial struct Simd256
{
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

    // Four rows, transposed inside each 128 bits.
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
