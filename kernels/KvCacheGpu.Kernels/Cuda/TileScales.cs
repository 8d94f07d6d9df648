using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>The scales of 64 tokens' values: a lane's are those of the tokens whose weights it has.</summary>
internal static class TileScales
{
    // Half of the least binary16 number: a page of zeros has no scale.
    private const float LeastScale = 2.98023224e-8f;

    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;

    /// <summary>The largest of a lane's scales of even tokens and of odd ones, from the word of its first two on.</summary>
    [MethodImpl(Inlined)]
    public static int Largest<TShape>(ArrayView<int> scales)
        where TShape : struct, ITensorShape => Lane.MaxHalves(
            Lane.MaxHalves(At<TShape>(scales, 0), At<TShape>(scales, 1)), Lane.MaxHalves(At<TShape>(scales, 2), At<TShape>(scales, 3)));

    /// <summary>The logarithm of what takes weights up to 1 times scales up to a largest one to 2^14.</summary>
    [MethodImpl(Inlined)]
    public static float Shift(float largest) => 14f - Lane.Log2(Lane.Max(largest, LeastScale));

    /// <summary>The power of two that takes scales up to a largest one to 2^13 .. 2^14.</summary>
    [MethodImpl(Inlined)]
    public static float Unit(float largest)
    {
        float most = largest > LeastScale ? largest : LeastScale;
        return PortableMath.InverseOfPower(Interop.IntAsFloat(Interop.FloatAsInt(most) & 0x7F800000u)) * 8192f;
    }

    /// <summary>Two tokens' scales of a tile.</summary>
    [MethodImpl(Inlined)]
    public static int At<TShape>(ArrayView<int> scales, int tile)
        where TShape : struct, ITensorShape => scales[QueryTiles.TileTokens<TShape>(tile) / 2];

    /// <summary>
    /// Weights times two tokens' scales. Of elements with an offset odd tokens enter as -p: the offsets nearly cancel, and what is left of them is taken away from the start.
    /// </summary>
    [MethodImpl(Inlined)]
    public static Floats4 Times<TValue>(Floats4 weights, int scales)
        where TValue : struct, IValueTiles
    {
        float even = Lane.LowHalf(scales);
        float odd = default(TValue).Offset != ValueOffset.None ? -Lane.HighHalf(scales) : Lane.HighHalf(scales);
        weights.A *= even;
        weights.B *= even;
        weights.C *= odd;
        weights.D *= odd;
        return weights;
    }

    /// <summary>sum + weights times two tokens' minima, over the tokens of a column.</summary>
    [MethodImpl(Inlined)]
    public static void AddMinima(ref ScalePair sum, Floats4 weights, int minima)
    {
        float even = Lane.LowHalf(minima);
        float odd = Lane.HighHalf(minima);
        sum.A = Lane.Fma(weights.C, odd, Lane.Fma(weights.A, even, sum.A));
        sum.B = Lane.Fma(weights.D, odd, Lane.Fma(weights.B, even, sum.B));
    }
}
