namespace KvCacheGpu.Kernels.Tests;

public class Bits16Tests
{
    private static readonly float[] Edges =
    [
        0f, -0f, float.Epsilon, -float.Epsilon, 2.9802322e-8f, 2.9802326e-8f, 5.9604645e-8f, 8.940697e-8f, 6.097555e-5f, 6.1035156e-5f, 6.1e-5f,
        65504f, 65519.996f, 65520f, -65520f, 65536f, 1e30f, float.MaxValue, 3.4e38f, float.PositiveInfinity, float.NegativeInfinity, float.NaN,
        1f, 1.0004883f, 1.0004884f, 1.0014648f, 1.00390625f, 1.01171875f, 127f, 1f / 3f,
    ];

    [Fact]
    public void Every_half_widens_as_the_runtime_widens_it_and_comes_back()
    {
        for (uint bits = 0; bits <= 0xFFFF; bits++)
        {
            float expected = (float)BitConverter.UInt16BitsToHalf((ushort)bits);
            uint wide = Bits16.SingleBitsFromHalf(bits);
            if (float.IsNaN(expected))
            {
                Assert.True(float.IsNaN(BitConverter.UInt32BitsToSingle(wide)));
                Assert.True(Half.IsNaN(BitConverter.UInt16BitsToHalf((ushort)Bits16.HalfFromSingleBits(wide))));
                continue;
            }

            Assert.Equal(BitConverter.SingleToUInt32Bits(expected), wide);
            Assert.Equal(bits, Bits16.HalfFromSingleBits(wide));
        }
    }

    [Fact]
    public void Every_bfloat16_widens_and_comes_back()
    {
        for (uint bits = 0; bits <= 0xFFFF; bits++)
        {
            uint wide = Bits16.SingleBitsFromBFloat16(bits);
            uint back = Bits16.BFloat16FromSingleBits(wide);
            Assert.Equal(float.IsNaN(BitConverter.UInt32BitsToSingle(wide)) ? bits | 0x40 : bits, back);
        }
    }

    [Fact]
    public void A_million_floats_narrow_as_the_runtime_narrows_them()
    {
        var random = new Random(1);
        for (int i = 0; i < 1_000_000; i++)
        {
            AssertNarrows(Sample(random, i));
        }

        Array.ForEach(Edges, AssertNarrows);
    }

    [Fact]
    public void A_scale_rounds_up_to_the_next_half_and_never_below_its_floor()
    {
        var random = new Random(2);
        for (int i = 0; i < 1_000_000; i++)
        {
            AssertRoundsUp(MathF.Abs(Sample(random, i)));
        }

        Array.ForEach(Edges, edge => AssertRoundsUp(MathF.Abs(edge)));
    }

    [Fact]
    public void A_minimum_rounds_down_to_the_next_half()
    {
        var random = new Random(3);
        for (int i = 0; i < 1_000_000; i++)
        {
            AssertRoundsDown(Sample(random, i));
        }

        Array.ForEach(Edges, AssertRoundsDown);
        Array.ForEach(Edges, edge => AssertRoundsDown(-edge));
    }

    // Half of the samples lie around the range of binary16, the others anywhere.
    private static float Sample(Random random, int i)
    {
        uint bits = (uint)random.NextInt64(1L << 32);
        return BitConverter.UInt32BitsToSingle(i % 2 == 0 ? bits : (bits & 0x807FFFFF) | ((uint)random.Next(98, 146) << 23));
    }

    private static void AssertNarrows(float x)
    {
        uint half = Bits16.HalfFromSingleBits(BitConverter.SingleToUInt32Bits(x));
        uint brain = Bits16.BFloat16FromSingleBits(BitConverter.SingleToUInt32Bits(x));
        if (float.IsNaN(x))
        {
            Assert.True((half & 0x7FFF) is > 0x7C00 and <= 0x7FFF);
            Assert.True((brain & 0x7FFF) is > 0x7F80 and <= 0x7FFF);
            return;
        }

        Assert.Equal(BitConverter.HalfToUInt16Bits((Half)x), half);
        Assert.Equal(NearestBFloat16(x), brain);
    }

    // The nearer of the two neighbours, in double; the even one on a tie.
    private static uint NearestBFloat16(float x)
    {
        uint low = BitConverter.SingleToUInt32Bits(x) >> 16;
        if (float.IsInfinity(x))
        {
            return low;
        }

        uint high = low + 1;
        double below = Math.Abs((double)BitConverter.UInt32BitsToSingle(low << 16));
        double above = (high & 0x7FFF) == 0x7F80 ? Math.ScaleB(1, 128) : Math.Abs((double)BitConverter.UInt32BitsToSingle(high << 16));
        double middle = (below + above) / 2;
        double magnitude = Math.Abs((double)x);
        return magnitude < middle || (magnitude == middle && (low & 1) == 0) ? low : high;
    }

    private static void AssertRoundsUp(float x)
    {
        if (!float.IsFinite(x))
        {
            return;
        }

        uint bits = Bits16.HalfRoundUpFromSingleBits(BitConverter.SingleToUInt32Bits(x));
        Assert.InRange(bits, 1u, 0x7C00u);
        Assert.True((float)BitConverter.UInt16BitsToHalf((ushort)bits) >= x);
        Assert.True(bits == 1 || (float)BitConverter.UInt16BitsToHalf((ushort)(bits - 1)) < x);
    }

    private static void AssertRoundsDown(float x)
    {
        if (!float.IsFinite(x))
        {
            return;
        }

        uint bits = Bits16.HalfFloorFromSingleBits(BitConverter.SingleToUInt32Bits(x));
        Half below = BitConverter.UInt16BitsToHalf((ushort)bits);
        Assert.True((float)below <= x);
        Half next = below == Half.NegativeInfinity ? Half.MinValue : Half.BitIncrement(below);
        Assert.True(below == Half.MaxValue || (float)next > x);
        Assert.True(x != 0 || bits == 0);
    }
}
