namespace KvCacheGpu.Kernels.Tests;

public class Bits8Tests
{
    [Fact]
    public void Every_pattern_has_the_value_of_the_standard_and_comes_back()
    {
        for (uint bits = 0; bits <= 0xFF; bits++)
        {
            float wide = BitConverter.UInt32BitsToSingle(Bits8.SingleBitsFromFp8(bits));
            if ((bits & 0x7F) == 0x7F)
            {
                Assert.True(float.IsNaN(wide));
                continue;
            }

            Assert.Equal(Value(bits), wide);
            Assert.Equal(bits >> 7 == 1, float.IsNegative(wide));
            Assert.Equal(bits, Bits8.Fp8FromSingleBits(BitConverter.SingleToUInt32Bits(wide)));
        }
    }

    [Fact]
    public void Floats_round_to_the_nearest_pattern_even_on_ties_and_saturate()
    {
        for (uint low = 0; low < 0x7E; low++)
        {
            (float a, float b) = ((float)Value(low), (float)Value(low + 1));
            float middle = (a + b) / 2;
            uint even = low + (low & 1);
            AssertRounds(even, middle);
            AssertRounds(low, float.BitDecrement(middle));
            AssertRounds(low + 1, float.BitIncrement(middle));
        }

        foreach (float beyond in new[] { 449f, 480f, 1e10f, float.MaxValue, float.PositiveInfinity, float.NaN })
        {
            AssertRounds(0x7E, float.IsNaN(beyond) ? BitConverter.UInt32BitsToSingle(0x7FC00000) : beyond);
        }

        AssertRounds(0, float.Epsilon);
        AssertRounds(0, 1e-30f);
    }

    private static void AssertRounds(uint expected, float x)
    {
        uint bits = BitConverter.SingleToUInt32Bits(x);
        Assert.Equal(expected, Bits8.Fp8FromSingleBits(bits));
        Assert.Equal(expected | 0x80, Bits8.Fp8FromSingleBits(bits | 0x80000000));
    }

    private static double Value(uint bits)
    {
        (uint exponent, uint fraction) = ((bits >> 3) & 15, bits & 7);
        double magnitude = exponent == 0 ? fraction * Math.ScaleB(1, -9) : (8 + fraction) * Math.ScaleB(1, (int)exponent - 10);
        return (bits & 0x80) == 0 ? magnitude : -magnitude;
    }
}
