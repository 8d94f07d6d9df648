using System.Runtime.CompilerServices;
using ILGPU;

namespace KvCacheGpu.Kernels;

/// <summary>The scales of 64 tokens' values: a lane's are those of the tokens whose weights it has.</summary>
internal static class TileScales
{
    // Half of the least binary16 number: a page of zeros has no scale.
    private const float LeastScale = 2.98023224e-8f;

    private const MethodImplOptions Inlined = MethodImplOptions.AggressiveInlining;

    /// <summary>The largest of a lane's scales of even tokens and of odd ones.</summary>
    [MethodImpl(Inlined)]
    public static int Largest(Words4 scales) => Lane.MaxHalves(Lane.MaxHalves(scales.X, scales.Y), Lane.MaxHalves(scales.Z, scales.W));

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

    /// <summary>A word of two tokens' scales for each of the four tiles: of the plane at a word of the page, or of one that lies more words on.</summary>
    [MethodImpl(Inlined)]
    public static Words4 Load<TShape>(PageWords page, int plane, int more)
        where TShape : struct, ITensorShape
    {
        int g = (Group.IdxX & 31) >> 2;
        Words4 scales = default;
        if (default(TShape).IsQuads)
        {
            ArrayView<Words2> two = page.Words.Two.SubView((plane / 2) + (page.Span / 4) + g);
            Words2 low = two[more / 2];
            Words2 high = two[(more / 2) + (TokenOrder.ReadTile<TShape>(2) / 4)];
            scales = KeyOperands.Of(low.X, low.Y, high.X, high.Y);
        }
        else
        {
            ArrayView<int> one = page.Words.One.SubView(plane + (page.Span / 2) + g);
            scales.X = one[more];
            scales.Y = one[more + (TokenOrder.ReadTile<TShape>(1) / 2)];
            scales.Z = one[more + (TokenOrder.ReadTile<TShape>(2) / 2)];
            scales.W = one[more + (TokenOrder.ReadTile<TShape>(3) / 2)];
        }

        return scales;
    }

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
    public static void AddMinima<TColumns>(ref ScalePair sum, Floats4 weights, int minima)
        where TColumns : struct, IQueryColumns
    {
        float even = Lane.LowHalf(minima);
        float odd = Lane.HighHalf(minima);
        sum.A = Lane.Fma(weights.C, odd, Lane.Fma(weights.A, even, sum.A));
        if (default(TColumns).Count == 8)
        {
            sum.B = Lane.Fma(weights.D, odd, Lane.Fma(weights.B, even, sum.B));
        }
    }
}
