using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>Blocks worked out by hand from ggml's reference quantizers: the oracle is held to them, and with it every tier.</summary>
public class GgmlGoldenTests
{
    [Fact]
    public void A_q8_block_rounds_half_away_from_zero_by_the_reciprocal_of_the_single_scale()
    {
        // The largest is 127, so that d and its reciprocal are 1 and codes are the elements, rounded.
        float[] x = Block(127f, -127f, 0.5f, -0.5f, 1.5f, 2.5f, -2.5f, 0.49f, 63.5f, -126.5f);
        (uint[] codes, Half[] scales) = GgmlOracle.Q8(x);
        Assert.Equal((Half)1, Assert.Single(scales));
        Assert.Equal([127, -127, 1, -1, 2, 3, -3, 0, 64, -127], codes.Take(10).Select(c => (int)(sbyte)c));
        Assert.All(codes.Skip(10), c => Assert.Equal(0u, c));
    }

    [Fact]
    public void A_q8_block_quantizes_by_the_single_scale_and_stores_its_half()
    {
        // d = 1/127 = 0.007874016; its nearest half is 0x2008 = 0.0078735352, which alone would give 127.008.
        (uint[] codes, Half[] scales) = GgmlOracle.Q8(Block(1f, -1f, 0.5f, 0.25f));
        Assert.Equal(0x2008, BitConverter.HalfToUInt16Bits(scales[0]));
        Assert.Equal([127, -127, 64, 32], codes.Take(4).Select(c => (int)(sbyte)c));
    }

    [Fact]
    public void A_q4_block_takes_the_sign_of_its_first_largest()
    {
        // The first of two largest is -8: d = 1, code = x + 8 rounded half up, never above 15.
        (uint[] codes, Half[] scales) = GgmlOracle.Q4(Block(-8f, 8f, 0f, 0.5f, -0.5f, 0.49f, 6.5f, 7.4f, -7.6f));
        Assert.Equal((Half)1, scales[0]);
        Assert.Equal([0u, 15, 8, 9, 8, 8, 15, 15, 0], codes.Take(9));

        // The first is +8: d = -1, code = 8 - x.
        (codes, scales) = GgmlOracle.Q4(Block(8f, -8f, 0f, 0.5f, -0.5f, 3f));
        Assert.Equal((Half)(-1), scales[0]);
        Assert.Equal([0u, 15, 8, 8, 9, 5], codes.Take(6));
    }

    [Fact]
    public void A_block_of_zeros_has_a_scale_of_zero()
    {
        Assert.Equal(Half.Zero, GgmlOracle.Q8(new float[32]).Scales[0]);
        Assert.All(GgmlOracle.Q8(new float[32]).Codes, c => Assert.Equal(0u, c));
        Assert.All(GgmlOracle.Q4(new float[32]).Codes, c => Assert.Equal(8u, c));
    }

    [Theory]
    [InlineData(0x00, 0.0)]
    [InlineData(0x01, 0.001953125)]
    [InlineData(0x07, 0.013671875)]
    [InlineData(0x08, 0.015625)]
    [InlineData(0x38, 1.0)]
    [InlineData(0x3C, 1.5)]
    [InlineData(0x77, 240.0)]
    [InlineData(0x78, 256.0)]
    [InlineData(0x7E, 448.0)]
    [InlineData(0xC0, -2.0)]
    [InlineData(0xFE, -448.0)]
    public void An_E4M3_pattern_has_its_value(uint bits, double value)
    {
        Assert.Equal(value, Fp8Oracle.Decode(bits));
        Assert.Equal(bits, Fp8Oracle.Encode((float)value));
    }

    [Theory]
    [InlineData(448.1f, 0x7E)]
    [InlineData(1e30f, 0x7E)]
    [InlineData(-464f, 0xFE)]
    [InlineData(1.0625f, 0x38)]
    [InlineData(1.1875f, 0x3A)]
    [InlineData(1.07f, 0x39)]
    [InlineData(0.0009765625f, 0x00)]
    [InlineData(0.00097656256f, 0x01)]
    [InlineData(0.0029296875f, 0x02)]
    [InlineData(-0f, 0x80)]
    public void An_E4M3_number_rounds_to_the_nearest_even_and_saturates(float x, uint bits) => Assert.Equal(bits, Fp8Oracle.Encode(x));

    private static float[] Block(params float[] first) => [.. first, .. new float[32 - first.Length]];
}
