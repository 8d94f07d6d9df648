namespace KvCacheGpu.Kernels.Tests;

/// <summary>Every binary16 and its neighbours in binary32: the largest half that is not above.</summary>
public class HalfFloorTests
{
    [Fact]
    public void Every_half_is_its_own_floor_and_that_of_what_lies_up_to_the_next()
    {
        for (int i = 0; i <= 0xFFFF; i++)
        {
            Half half = BitConverter.UInt16BitsToHalf((ushort)i);
            if (!Half.IsFinite(half))
            {
                continue;
            }

            Assert.Equal(half, Floor((float)half));
            Assert.Equal(half, Floor(MathF.BitIncrement((float)half)));
            Assert.Equal(half, Floor(MathF.BitDecrement((float)Half.BitIncrement(half))));
            Assert.Equal(Half.BitDecrement(half), Floor(MathF.BitDecrement((float)half)));
        }
    }

    [Theory]
    [InlineData(1e30f, 65504f)]
    [InlineData(65520f, 65504f)]
    [InlineData(-65504.004f, float.NegativeInfinity)]
    [InlineData(-1e30f, float.NegativeInfinity)]
    [InlineData(float.Epsilon, 0f)]
    [InlineData(-float.Epsilon, -5.9604645e-8f)]
    public void Beyond_the_range_the_floor_is_the_largest_or_minus_infinity(float x, float floor) => Assert.Equal(floor, (float)Floor(x));

    private static Half Floor(float x) =>
        BitConverter.UInt16BitsToHalf((ushort)Bits16.HalfFloorFromSingleBits(BitConverter.SingleToUInt32Bits(x)));
}
