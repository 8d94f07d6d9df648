using System.Runtime.Intrinsics;

namespace KvCacheGpu.Kernels;

/// <summary>Which vectors the SIMD tier computes with.</summary>
public enum SimdLevel
{
    /// <summary>The widest that this processor accelerates.</summary>
    Auto,

    /// <summary>One element at a time: any processor.</summary>
    Scalar,

    /// <summary>256-bit vectors (AVX2).</summary>
    Vector256,

    /// <summary>512-bit vectors (AVX-512).</summary>
    Vector512,
}

internal static class SimdLevels
{
    public static SimdLevel Resolve(this SimdLevel level) => level switch
    {
        SimdLevel.Auto when Vector512.IsHardwareAccelerated => SimdLevel.Vector512,
        SimdLevel.Auto when Vector256.IsHardwareAccelerated => SimdLevel.Vector256,
        SimdLevel.Auto => SimdLevel.Scalar,
        _ => level,
    };
}
