namespace KvCacheGpu.Tests;

/// <summary>The exponents that a row gets, against the error that they leave.</summary>
public sealed class ScaleFitTests
{
    [Theory]
    [InlineData(32, 32)]
    [InlineData(40, 24)]
    [InlineData(64, 64)]
    public void Outliers_are_evened_out_by_whole_pairs(int width, int turned)
    {
        double[] keys = [.. Enumerable.Repeat(1.0, width)], queries = [.. Enumerable.Repeat(1.0, width)];
        foreach (int element in (int[])[3, 3 + (turned / 2)])
        {
            (keys[element], queries[element]) = (64.0 * 64, 1.0 / (64 * 64));
        }

        byte[] exponents = new byte[width];
        ScaleFit.Fit(keys, queries, turned, exponents);
        Assert.Equal(0, exponents[3]);
        Assert.Equal(0, exponents[3 + (turned / 2)]);
        Assert.All(exponents.Where((_, i) => i != 3 && i != 3 + (turned / 2)), exponent => Assert.Equal(6, exponent));
    }

    [Fact]
    public void The_error_left_is_near_the_least_that_any_scales_leave()
    {
        var random = new Random(4);
        for (int round = 0; round < 50; round++)
        {
            double[] keys = [.. Enumerable.Range(0, 64).Select(_ => Math.Exp(4 * random.NextDouble()))];
            double[] queries = [.. Enumerable.Range(0, 64).Select(_ => Math.Exp(-4 * random.NextDouble()))];
            byte[] exponents = new byte[64];
            ScaleFit.Fit(keys, queries, 0, exponents);

            // Cauchy-Schwarz: what scales without rounding leave.
            double least = Math.Pow(keys.Zip(queries, (k, q) => Math.Sqrt(k * q)).Sum(), 2);

            // Rows that scales would hardly help are left alone.
            double most = exponents.AsSpan().ContainsAnyExcept((byte)0) ? 1.2 : 1.2 * 1.25;
            Assert.InRange(Error(keys, queries, exponents), least, most * least);
            Assert.True(Error(keys, queries, exponents) <= Error(keys, queries, new byte[64]));
            Assert.Contains((byte)0, exponents);
        }
    }

    [Fact]
    public void Even_keys_and_keys_that_say_nothing_keep_the_scale_1()
    {
        var random = new Random(5);
        byte[] exponents = new byte[32];
        ScaleFit.Fit([.. Enumerable.Range(0, 32).Select(_ => 1 + (0.3 * random.NextDouble()))], [.. Enumerable.Repeat(2.0, 32)], 32, exponents);
        Assert.Equal(-1, exponents.AsSpan().IndexOfAnyExcept((byte)0));
        foreach (double nothing in (double[])[0, double.NaN, double.PositiveInfinity])
        {
            Assert.False(ScaleFit.Fit([.. Enumerable.Repeat(nothing, 32)], [.. Enumerable.Repeat(2.0, 32)], 32, exponents));
            Assert.Equal(-1, exponents.AsSpan().IndexOfAnyExcept((byte)0));
        }
    }

    [Fact]
    public void Exponents_end_at_15_however_far_elements_are_apart()
    {
        double[] keys = [.. Enumerable.Repeat(1e-30, 32)], queries = [.. Enumerable.Repeat(1.0, 32)];
        (keys[0], keys[16], queries[0], queries[16]) = (1, 1, 1e-30, 1e-30);
        byte[] exponents = new byte[32];
        Assert.True(ScaleFit.Fit(keys, queries, 32, exponents));
        Assert.Equal((0, KvKeyScales.MostExponent), (exponents.Min(), exponents.Max()));
    }

    private static double Error(double[] keys, double[] queries, byte[] exponents) =>
        keys.Zip(exponents, (k, p) => k * Math.Pow(4, p)).Sum() * queries.Zip(exponents, (q, p) => q * Math.Pow(4, -p)).Sum();
}
