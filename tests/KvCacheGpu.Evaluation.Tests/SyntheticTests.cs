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

        // A budget that binds: tokens go, bytes hold, attention is kept better by looking than by chance.
        Assert.All(rows.Skip(3).Take(2), r => Assert.True(r.Ratio <= .5 && r.EvictedTokens > 0, $"{r}"));
        Assert.True(rows[4].MassRecall > rows[3].MassRecall && rows[4].OutputError < rows[3].OutputError, $"{rows[3]} {rows[4]}");
        Assert.Contains("memory budget", rows[5].Refused, StringComparison.Ordinal);
        Assert.Equal(rows, SyntheticRun.Run(settings, 1, "cpu"));
    }
}
