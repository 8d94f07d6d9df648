namespace KvCacheGpu.Kernels.Tests;

/// <summary>The device code's own elementary functions, against the host's in binary64.</summary>
public sealed class PortableMathTests
{
    [Fact]
    public void Exp_holds_two_units_in_the_last_place_down_to_where_singles_end()
    {
        for (int i = 0; i <= 86_000; i++)
        {
            float x = -i / 1000f;
            double expected = Math.Exp(x);
            Assert.InRange(PortableMath.Exp(x), expected * (1 - 2e-7), expected * (1 + 2e-7));
        }

        Assert.Equal(1f, PortableMath.Exp(0));
        Assert.Equal(0f, PortableMath.Exp(-87.5f));
        Assert.Equal(0f, PortableMath.Exp(float.NegativeInfinity));
    }

    [Fact]
    public void Log_holds_two_units_in_the_last_place_of_larger_than_one()
    {
        for (float x = 1e-30f; x < 1e30f; x *= 1.0007f)
        {
            double expected = Math.Log(x);
            Assert.InRange(PortableMath.Log(x), expected - (2e-7 * Math.Max(1, Math.Abs(expected))), expected + (2e-7 * Math.Max(1, Math.Abs(expected))));
        }

        Assert.Equal(0f, PortableMath.Log(1));
    }

    [Theory]
    [InlineData(0.5f, 0)]
    [InlineData(1.5f, 2)]
    [InlineData(-2.5f, -2)]
    [InlineData(126.5f, 126)]
    [InlineData(127.4f, 127)]
    [InlineData(1e30f, 127)]
    [InlineData(-1e30f, -127)]
    public void Rounding_takes_half_to_even_and_stays_within_the_codes(float x, int expected) =>
        Assert.Equal(expected, PortableMath.RoundToInt7(x));

    [Theory]
    [InlineData(0.5f, 1)]
    [InlineData(-0.5f, -1)]
    [InlineData(0.49999997f, 0)]
    [InlineData(2.5f, 3)]
    [InlineData(-126.5f, -127)]
    [InlineData(127.00001f, 127)]
    public void Rounding_away_from_zero_is_that_of_c(float x, int expected) => Assert.Equal(expected, PortableMath.RoundAway(x));

    [Theory]
    [InlineData(-0.1f, 0u)]
    [InlineData(0.5f, 0u)]
    [InlineData(1.5f, 2u)]
    [InlineData(14.6f, 15u)]
    [InlineData(99f, 15u)]
    public void Nibbles_are_rounded_half_to_even_and_clamped(float x, uint expected) => Assert.Equal(expected, PortableMath.RoundToNibble(x));

    [Theory]
    [InlineData(-8f, 0u)]
    [InlineData(-0.6f, 7u)]
    [InlineData(0f, 8u)]
    [InlineData(0.5f, 9u)]
    [InlineData(8f, 15u)]
    public void Codes_of_q4_0_are_those_of_ggml(float x, uint expected) => Assert.Equal(expected, PortableMath.GgmlNibble(x));

    [Theory]
    [InlineData(1e9f, 65504f)]
    [InlineData(-1e9f, -65504f)]
    [InlineData(float.PositiveInfinity, 65504f)]
    [InlineData(0.1f, 0.099975586f)]
    public void Digests_saturate(float x, float expected) => Assert.Equal(expected, PortableMath.Single(PortableMath.SaturatedHalf(x)));

    [Fact]
    public void Segments_cover_every_page_once_and_are_never_more_than_the_bound()
    {
        foreach (int minimum in new[] { 1, 4, 16 })
        {
            for (int pages = 1; pages < 3000; pages++)
            {
                int share = Segments.Pages(pages, minimum, Segments.GroupShift);
                int count = (pages + share - 1) / share;
                Assert.InRange(count, 1, Math.Min(64, (pages + minimum - 1) / minimum));
                Assert.True(count * share >= pages && (count - 1) * share < pages);
            }
        }
    }
}
