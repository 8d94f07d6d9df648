namespace KvCacheGpu.Evaluation.Tests;

public sealed class BootstrapTests
{
    [Fact]
    public void Values_that_are_all_the_same_leave_no_doubt() => Assert.Equal(new Interval(.5, .5, .5), Bootstrap.Mean([.5, .5, .5]));

    [Fact]
    public void The_same_seed_gives_the_same_interval()
    {
        double[] values = Normal(20, 1);
        Assert.Equal(Bootstrap.Mean(values, 7), Bootstrap.Mean(values, 7));
        Assert.NotEqual(Bootstrap.Mean(values, 7), Bootstrap.Mean(values, 8));
    }

    [Fact]
    public void It_is_the_normal_interval_where_values_are_many()
    {
        double[] values = Normal(400, 2);
        Interval interval = Bootstrap.Mean(values);
        double error = Math.Sqrt(values.Sum(v => Math.Pow(v - values.Average(), 2)) / values.Length / values.Length);
        Assert.Equal(values.Average(), interval.Mean, 12);
        Assert.InRange((interval.Mean - interval.Low) / error, 1.8, 2.1);
        Assert.InRange((interval.High - interval.Mean) / error, 1.8, 2.1);
    }

    [Fact]
    public void It_covers_the_truth_about_as_often_as_it_says()
    {
        int covered = Enumerable.Range(0, 200).Count(i => Bootstrap.Mean(Normal(30, i)) is { Low: <= 0, High: >= 0 });
        Assert.InRange(covered, 176, 198);
    }

    [Fact]
    public void No_values_are_refused() => Assert.Throws<ArgumentOutOfRangeException>(() => Bootstrap.Mean([]));

    private static double[] Normal(int count, int seed)
    {
        Random random = new(seed);
        return [.. Enumerable.Range(0, count).Select(_ => Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble()))];
    }
}
