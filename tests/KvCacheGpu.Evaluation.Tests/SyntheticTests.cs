namespace KvCacheGpu.Evaluation.Tests;

public sealed class SyntheticTests
{
    [Fact]
    public void Errors_follow_formats_and_budgets_and_repeat()
    {
        EvalSetting[] settings =
        [
            new("f16", EvalCaches.NoPolicy, null), new("t4", EvalCaches.NoPolicy, null), new("t2", EvalCaches.NoPolicy, null),
            new("f16", "random", .5), new("f16", "adaptive", .5), new("f16", "window", .01),
        ];
        IReadOnlyList<SyntheticRow> rows = SyntheticRun.Run(settings, 1, "cpu");
        Assert.Equal(settings, rows.Select(r => r.Setting));

        // Rounding alone, then fewer and fewer bits; nothing is lost.
        Assert.InRange(rows[0].OutputError, 1e-6, 2e-3);
        Assert.InRange(rows[1].OutputError, 10 * rows[0].OutputError, .2);
        Assert.InRange(rows[2].OutputError, 1.5 * rows[1].OutputError, 1);
        Assert.All(rows.Take(3), r => Assert.Equal(1, r.MassRecall, 1e-9));

        // A budget that binds: tokens go, or shrink where they may; bytes hold; attention is kept better by looking than by chance.
        Assert.All(rows.Skip(3).Take(2), r => Assert.True(r.Ratio <= .5, $"{r}"));
        Assert.True(rows[3].EvictedTokens > 0 && rows[4].OutputError > rows[0].OutputError, $"{rows[3]} {rows[4]}");
        Assert.True(rows[4].MassRecall > rows[3].MassRecall && rows[4].OutputError < rows[3].OutputError, $"{rows[3]} {rows[4]}");
        Assert.Contains("memory budget", rows[5].Refused, StringComparison.Ordinal);
        Assert.Equal(rows, SyntheticRun.Run(settings, 1, "cpu"));
    }

    [Fact]
    public void The_oracle_loses_the_least_of_those_that_drop()
    {
        EvalSetting[] settings = [.. new[] { EvalCaches.Oracle, "random", "window", "h2o", "keydiff" }.Select(policy => new EvalSetting("f16", policy, .5))];
        IReadOnlyList<SyntheticRow> rows = SyntheticRun.Run(settings, 1, "cpu");
        Assert.True(rows[0].Ratio <= .5 && rows[0].EvictedTokens > 0, $"{rows[0]}");
        Assert.All(rows.Skip(1), r => Assert.True(r.MassRecall < rows[0].MassRecall && r.OutputError > rows[0].OutputError, $"{rows[0]} {r}"));
    }

    [Fact]
    public void Seeds_begin_where_they_are_told_to()
    {
        EvalSetting[] settings = [new("f16", "random", .5)];
        SyntheticRow both = SyntheticRun.Run(settings, 2, "cpu", 3)[0];
        SyntheticRow[] each = [SyntheticRun.Run(settings, 1, "cpu", 3)[0], SyntheticRun.Run(settings, 1, "cpu", 4)[0]];
        Assert.NotEqual(each[0].MassRecall, each[1].MassRecall);
        Assert.Equal(each.Average(r => r.MassRecall), both.MassRecall, 1e-12);
    }

    // Share of the exact attention to tokens that h2o and lru keep, 35 % of all: how far attention of each family can be foretold from mass and from recency.
    [Theory]
    [InlineData(SyntheticFamily.Local, .75, .86, .75, .86)]
    [InlineData(SyntheticFamily.Diffuse, .33, .43, .36, .46)]
    [InlineData(SyntheticFamily.Repeating, .05, .2, .36, .47)]
    [InlineData(SyntheticFamily.Drifting, .38, .48, .3, .4)]
    [InlineData(SyntheticFamily.Sinks, .88, .96, .88, .96)]
    public void Families_differ_and_adaptive_is_near_the_best_policy_in_each(SyntheticFamily family, double leastH2o, double mostH2o, double leastLru, double mostLru)
    {
        string[] singles = ["h2o", "lru", "tova", "adakv"];
        EvalSetting[] settings = [.. singles.Append("adaptive").Select(policy => new EvalSetting("t2", policy, .19))];
        IReadOnlyList<SyntheticRow> rows = SyntheticRun.Run(settings, 1, "cpu", family: family);
        Assert.All(rows, r => Assert.True(r.Refused is null && r.EvictedTokens > SyntheticRun.Tokens / 2, $"{r}"));
        Assert.InRange(rows[0].MassRecall, leastH2o, mostH2o);
        Assert.InRange(rows[1].MassRecall, leastLru, mostLru);

        // Nothing is demoted from T2: this is the choice of pages alone.
        double best = rows.Take(singles.Length).Min(r => r.OutputError);
        Assert.True(rows[^1].OutputError <= 1.25 * best, $"{family}: {rows[^1]} against {best}");
    }
}
