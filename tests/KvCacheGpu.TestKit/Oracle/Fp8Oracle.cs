namespace KvCacheGpu.TestKit;

/// <summary>FP8 E4M3FN from its table: 4 bits of exponent with a bias of 7, 3 of mantissa, no infinity, 0x7F and 0xFF no number.</summary>
public static class Fp8Oracle
{
    private const int Largest = 0x7E;

    private static readonly double[] Numbers = [.. Enumerable.Range(0, 256).Select(bits => Number((uint)bits))];

    /// <summary>The number of a pattern.</summary>
    public static double Decode(uint bits) => Numbers[bits];

    /// <summary>The nearest pattern: the even one on a tie, the largest for all beyond it, the sign kept.</summary>
    public static uint Encode(float x)
    {
        double magnitude = Math.Abs((double)x);
        uint above = 0;
        while (above < Largest && Decode(above) < magnitude)
        {
            above++;
        }

        uint nearest = above;
        if (above > 0)
        {
            (double down, double up) = (magnitude - Decode(above - 1), Decode(above) - magnitude);
            nearest = down < up || (down == up && above % 2 == 1) ? above - 1 : above;
        }

        return nearest | (float.IsNegative(x) ? 0x80u : 0);
    }

    private static double Number(uint bits)
    {
        (uint exponent, uint fraction) = ((bits >> 3) & 15, bits & 7);
        double magnitude = exponent == 0 ? fraction * Math.Pow(2, -9) : (8 + fraction) * Math.Pow(2, (int)exponent - 10);
        magnitude = (bits & 0x7F) == 0x7F ? double.NaN : magnitude;
        return (bits & 0x80) == 0 ? magnitude : -magnitude;
    }
}
