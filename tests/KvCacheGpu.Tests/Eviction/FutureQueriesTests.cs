using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

/// <summary>What is expected of queries to come, against complex numbers in float64.</summary>
public sealed class FutureQueriesTests
{
    private static readonly KvGeometry G = new(layers: 2, queryHeads: 4, kvHeads: 2, keyWidth: 10, pageTokens: 4)
    {
        Rope = new KvRope { Theta = 100, Width = 8 },
    };

    private readonly MemoryLedger _ledger = new(null);

    [Theory]
    [InlineData(1, 0)]
    [InlineData(7, 3)]
    [InlineData(64, 1000)]
    public void Mean_and_variance_are_those_of_the_queries_before_rope_turned_to_the_mean_of_what_comes(int tokens, int position)
    {
        using var future = new FutureQueries(G, _ledger);
        float[] queries = TokenContent.Queries(G, 1, [.. Enumerable.Range(0, tokens)]);
        for (int layer = 0; layer < G.Layers; layer++)
        {
            future.See(G, layer, 0, tokens, position, queries);
        }

        future.Join(G.GroupSize);
        float[] mean = new float[4 * 10], variance = new float[4 * 10];
        future.Foresee(position + tokens, mean, variance);
        for (int row = 0; row < 4; row++)
        {
            double[][] before = [.. Enumerable.Range(0, tokens).SelectMany(t => Enumerable.Range(0, 2).Select(member =>
                Turned(queries.AsSpan((((t * 4) + (row % 2 * 2) + member) * 10), 10), f => Turn(-(position + t) * f))))];
            double[] m = [.. Enumerable.Range(0, 10).Select(e => before.Average(q => q[e]))];
            double[] v = [.. Enumerable.Range(0, 10).Select(e => before.Average(q => q[e] * q[e]) - (m[e] * m[e]))];
            (double Real, double Imaginary) MeanTurn(double f) =>
                (Coming(position + tokens).Average(p => Turn(p * f).Real), Coming(position + tokens).Average(p => Turn(p * f).Imaginary));
            double[] expected = Turned([.. m.Select(x => (float)x)], MeanTurn);
            for (int e = 0; e < 10; e++)
            {
                Assert.Equal(expected[e], mean[(row * 10) + e], 1e-4);
                (int first, int second) = (e % 4, (e % 4) + 4);
                (double c, double s) = e < 8 ? MeanTurn(Math.Pow(100, -2.0 * first / 8)) : (1, 0);
                double spread = e < 8 ? (c * c * v[e]) + (s * s * v[e == first ? second : first]) : v[e];
                Assert.Equal(spread, variance[(row * 10) + e], 2e-4);
            }
        }
    }

    [Fact]
    public void A_long_prompt_is_seen_evenly_and_steps_weigh_by_their_queries()
    {
        using var once = new FutureQueries(G with { Rope = new KvRope { Theta = 100, Width = 2 } }, _ledger);
        var queries = new float[640 * 4 * 10];
        for (int token = 0; token < 640; token++)
        {
            queries.AsSpan(token * 40, 40).Fill(token);
        }

        // Every tenth token, the last one among them.
        once.See(G, 0, 0, 640, 0, queries);
        once.Join(G.GroupSize);
        Assert.Equal(324, Mean(once), 1e-2);
        once.See(G, 0, 0, 1, 640, new float[40]);
        once.Join(G.GroupSize);
        Assert.Equal(324 * 64 / 65.0, Mean(once), 1e-2);
    }

    [Fact]
    public void Old_queries_fade_beyond_the_horizon()
    {
        using var future = new FutureQueries(G, _ledger);
        var ones = new float[40];
        Array.Fill(ones, 1f);
        for (int token = 0; token < FutureQueries.Horizon; token++)
        {
            future.See(G, 0, 0, 1, token, new float[40]);
            future.Join(G.GroupSize);
        }

        future.See(G, 0, 0, 1, FutureQueries.Horizon, ones);
        future.Join(G.GroupSize);
        Assert.Equal(1 / (FutureQueries.Horizon + 1.0), Mean(future), 1e-6);
        for (int token = 0; token < 4 * FutureQueries.Horizon; token++)
        {
            future.See(G, 0, 0, 1, token, ones);
            future.Join(G.GroupSize);
        }

        Assert.InRange(Mean(future), 0.97, 0.99);
    }

    [Fact]
    public void An_abandoned_step_and_what_is_no_number_leave_no_trace_and_a_fork_knows_the_same()
    {
        using var a = new FutureQueries(G, _ledger);
        using var b = new FutureQueries(G, _ledger);
        Assert.Equal(1, Variance(a));
        float[] queries = TokenContent.Queries(G, 1, [5, 6]);
        a.See(G, 0, 0, 2, 0, queries);
        a.Join(G.GroupSize);
        double mean = Mean(a);
        a.See(G, 0, 0, 1, 2, TokenContent.Queries(G, 1, [7]));
        a.Forget();
        float[] broken = TokenContent.Queries(G, 1, [8]);
        broken[9] = float.NaN;
        broken[19] = float.PositiveInfinity;
        a.See(G, 0, 0, 1, 2, broken);
        a.Join(G.GroupSize);
        Assert.Equal(mean, Mean(a));
        b.CopyFrom(a);
        Assert.Equal((mean, Variance(a)), (Mean(b), Variance(b)));
        Assert.Equal(2 * FutureQueries.BookkeepingBytes(G), _ledger.Live);
    }

    [Theory]
    [InlineData(float.MaxValue)]
    [InlineData(-4e30f)]
    [InlineData(1.2e18f)]
    [InlineData(3e-41f)]
    public void Queries_of_any_size_leave_numbers(float size)
    {
        using var future = new FutureQueries(G, _ledger);
        var layout = new PageLayout(G, PageFormat.F32, PageFormat.F32);
        using var moments = new RowMoments(new KernelShape(G, layout, layout, 1, 1, 1), _ledger);
        var queries = new float[64 * 40];
        Array.Fill(queries, size);
        float[] ordinary = TokenContent.Queries(G, 1, [.. Enumerable.Range(0, 64)]);
        foreach (float[] step in new[] { queries, ordinary, queries })
        {
            future.See(G, 0, 0, 64, 0, step);
            future.Join(G.GroupSize);
            moments.See(G, 0, 63, step, step);
            moments.Join();
        }

        float[] mean = new float[4 * 10], variance = new float[4 * 10];
        future.Foresee(64, mean, variance);
        Assert.All(mean.Concat(variance).Concat(moments.Query[..2].ToArray()).Concat(moments.Output[..2].ToArray()), x => Assert.True(float.IsFinite(x)));
        Assert.Equal(Math.Sign(size), Math.Sign(Mean(future)));
        Assert.All(moments.Query[..2].ToArray(), x => Assert.True(Math.Abs(size) > 1 ? x > 1e30f : x > 0));
    }

    // Of element 9, which does not turn.
    private static double Mean(FutureQueries future) => Foreseen(future).Mean;

    private static double Variance(FutureQueries future) => Foreseen(future).Variance;

    private static (double Mean, double Variance) Foreseen(FutureQueries future)
    {
        float[] mean = new float[4 * 10], variance = new float[4 * 10];
        future.Foresee(0, mean, variance);
        return (mean[9], variance[9]);
    }

    private static IEnumerable<int> Coming(int position) => Enumerable.Range(position, FutureQueries.Horizon);

    private static (double Real, double Imaginary) Turn(double angle) => (Math.Cos(angle), Math.Sin(angle));

    private static double[] Turned(ReadOnlySpan<float> query, Func<double, (double Real, double Imaginary)> turn)
    {
        double[] turned = [.. query.ToArray().Select(x => (double)x)];
        for (int i = 0; i < 4; i++)
        {
            (double c, double s) = turn(Math.Pow(100, -2.0 * i / 8));
            (turned[i], turned[i + 4]) = ((query[i] * c) - (query[i + 4] * s), (query[i + 4] * c) + (query[i] * s));
        }

        return turned;
    }
}
