using System.Runtime.CompilerServices;

namespace KvCacheGpu.Kernels;

internal unsafe partial struct SimdScalar
{
    public static bool PicksFrom32 => false;

    public static float Pick32(float low, float high, int index) => throw new NotSupportedException();

    public static float Butterfly(float x, int half) => x;

    public static float Sqrt(float a) => MathF.Sqrt(a);

    public static int CountAbove(int count, float boundary, float x) => boundary < x ? count + 1 : count;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreBytes(byte* p, int value) => *p = (byte)value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreShorts(ushort* p, int value) => *p = (ushort)value;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Transpose(int* from, nint fromStride, int* to, nint toStride) => *to = *from;
}
