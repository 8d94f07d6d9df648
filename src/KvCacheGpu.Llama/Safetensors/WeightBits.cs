using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace KvCacheGpu.Llama;

/// <summary>Widens stored weights to binary32 in registers. It is exact, since the stored types are subsets of binary32.</summary>
internal unsafe interface IWeightBits
{
    /// <summary>Bytes of one weight.</summary>
    static abstract int Bytes { get; }

    /// <summary>One weight.</summary>
    static abstract float Load(byte* source);

    /// <summary>Sixteen weights in two vectors.</summary>
    static abstract (Vector256<float> Low, Vector256<float> High) Load16(byte* source);

    /// <summary>Thirty-two weights in two vectors.</summary>
    static abstract (Vector512<float> Low, Vector512<float> High) Load32(byte* source);
}

/// <summary>binary32, unchanged.</summary>
internal readonly unsafe struct F32Bits : IWeightBits
{
    public static int Bytes => 4;

    public static float Load(byte* source) => *(float*)source;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (Vector256<float> Low, Vector256<float> High) Load16(byte* source) =>
        (Vector256.Load((float*)source), Vector256.Load((float*)source + 8));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (Vector512<float> Low, Vector512<float> High) Load32(byte* source) =>
        (Vector512.Load((float*)source), Vector512.Load((float*)source + 16));
}

/// <summary>bfloat16: the upper half of a binary32.</summary>
internal readonly unsafe struct BF16Bits : IWeightBits
{
    public static int Bytes => 2;

    public static float Load(byte* source) => BitConverter.UInt32BitsToSingle((uint)*(ushort*)source << 16);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (Vector256<float> Low, Vector256<float> High) Load16(byte* source)
    {
        (Vector256<uint> low, Vector256<uint> high) = Vector256.Widen(Vector256.Load((ushort*)source));
        return ((low << 16).AsSingle(), (high << 16).AsSingle());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (Vector512<float> Low, Vector512<float> High) Load32(byte* source)
    {
        (Vector512<uint> low, Vector512<uint> high) = Vector512.Widen(Vector512.Load((ushort*)source));
        return ((low << 16).AsSingle(), (high << 16).AsSingle());
    }
}

/// <summary>
/// binary16, finite (the reader refuses others). The exponent is re-based by an integer addition; subnormals, whose leading bit is
/// not implied, are converted by subtracting the smallest normal from mantissa + smallest normal, which is exact.
/// </summary>
internal readonly unsafe struct F16Bits : IWeightBits
{
    private const uint Rebase = (127 - 15) << 23;
    private const uint SmallestNormal = (127 - 14) << 23;

    public static int Bytes => 2;

    public static float Load(byte* source) => (float)BitConverter.UInt16BitsToHalf(*(ushort*)source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (Vector256<float> Low, Vector256<float> High) Load16(byte* source)
    {
        (Vector256<uint> low, Vector256<uint> high) = Vector256.Widen(Vector256.Load((ushort*)source));
        return (Widen(low), Widen(high));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (Vector512<float> Low, Vector512<float> High) Load32(byte* source)
    {
        (Vector512<uint> low, Vector512<uint> high) = Vector512.Widen(Vector512.Load((ushort*)source));
        return (Widen(low), Widen(high));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Widen(Vector256<uint> half)
    {
        Vector256<uint> magnitude = (half & Vector256.Create(0x7fffu)) << 13;
        Vector256<uint> normal = magnitude + Vector256.Create(Rebase);
        Vector256<float> smallest = Vector256.Create(SmallestNormal).AsSingle();
        Vector256<float> subnormal = (magnitude + Vector256.Create(SmallestNormal)).AsSingle() - smallest;
        Vector256<uint> isSubnormal = Vector256.LessThan(magnitude.AsInt32(), Vector256.Create(1 << 23)).AsUInt32();
        Vector256<uint> widened = Vector256.ConditionalSelect(isSubnormal, subnormal.AsUInt32(), normal);
        return (widened | ((half & Vector256.Create(0x8000u)) << 16)).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Widen(Vector512<uint> half)
    {
        Vector512<uint> magnitude = (half & Vector512.Create(0x7fffu)) << 13;
        Vector512<uint> normal = magnitude + Vector512.Create(Rebase);
        Vector512<float> smallest = Vector512.Create(SmallestNormal).AsSingle();
        Vector512<float> subnormal = (magnitude + Vector512.Create(SmallestNormal)).AsSingle() - smallest;
        Vector512<uint> isSubnormal = Vector512.LessThan(magnitude, Vector512.Create(1u << 23));
        Vector512<uint> widened = Vector512.ConditionalSelect(isSubnormal, subnormal.AsUInt32(), normal);
        return (widened | ((half & Vector512.Create(0x8000u)) << 16)).AsSingle();
    }
}
