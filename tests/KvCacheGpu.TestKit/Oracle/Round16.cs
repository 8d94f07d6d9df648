namespace KvCacheGpu.TestKit;

/// <summary>Rounding to 16 bits by the runtime's binary16 and by neighbours in double, without code of the kernels.</summary>
public static class Round16
{
    /// <summary>The smallest binary16 that is not below x, and at least 2^-24, for a scale.</summary>
    public static Half Up(float x)
    {
        var nearest = (Half)x;
        Half up = (float)nearest < x ? Half.BitIncrement(nearest) : nearest;
        return up == Half.Zero ? Half.Epsilon : up;
    }

    /// <summary>The largest binary16 that is not above x, for a minimum.</summary>
    public static Half Down(float x)
    {
        var nearest = (Half)x;
        return (float)nearest > x ? Half.BitDecrement(nearest) : nearest;
    }

    /// <summary>The nearest binary16, at most +-65504, for an element of a digest.</summary>
    public static Half Saturated(float x) => (Half)Math.Clamp(x, -65504f, 65504f);

    /// <summary>The nearest bfloat16's bits, the even neighbour on a tie; NaN stays NaN.</summary>
    public static ushort BFloat16(float x)
    {
        uint low = BitConverter.SingleToUInt32Bits(x) >> 16;
        if (!float.IsFinite(x))
        {
            return (ushort)(float.IsNaN(x) ? low | 0x40 : low);
        }

        // Numbers beyond the largest are rounded as if infinity were the next number.
        double below = Magnitude(low);
        double above = (low & 0x7FFF) == 0x7F7F ? Math.ScaleB(1, 128) : Magnitude(low + 1);
        (double down, double up) = (Math.Abs((double)x) - below, above - Math.Abs((double)x));
        return (ushort)(down < up || (down == up && (low & 1) == 0) ? low : low + 1);
    }

    private static double Magnitude(uint bits) => Math.Abs((double)BitConverter.UInt32BitsToSingle(bits << 16));
}
