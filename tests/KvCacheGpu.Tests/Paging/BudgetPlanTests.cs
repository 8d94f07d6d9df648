namespace KvCacheGpu.Tests;

/// <summary>How the budget is cut into slabs.</summary>
public sealed class BudgetPlanTests
{
    private static readonly KvFormats[] Small = [new(PageFormat.I8, PageFormat.I8), new(PageFormat.T4, PageFormat.V4), new(PageFormat.T2, PageFormat.V2)];

    [Fact]
    public void Any_budget_from_the_least_on_has_the_slabs_that_one_sequence_always_holds()
    {
        int differ = 0;
        foreach ((int width, int pageTokens) in new[] { (16, 2), (96, 2), (128, 128), (200, 64) })
        {
            var geometry = new KvGeometry(layers: 2, queryHeads: 4, kvHeads: 2, keyWidth: width, pageTokens: pageTokens);
            foreach (KvFormats[] targets in new[] { Small, Small[..1], Small[1..], [] })
            {
                var config = new KvCacheOptions { MaxTokens = 2_432, Policy = new AdaptivePolicy { WindowTokens = 128 }, DemotionFormats = targets };
                long least = PlanOf(config, geometry).MinimumBytes;
                var units = new HashSet<int>();
                for (int percent = 100; percent < 400; percent += 5)
                {
                    config.MemoryBudgetBytes = ((least * percent) + 99) / 100;
                    var plan = PlanOf(config, geometry);
                    Assert.Equal(least, plan.MinimumBytes);
                    Assert.True(plan.SlabsWithin(config.MemoryBudgetBytes.Value) >= plan.FewestSlabs(), $"width {width}, {targets.Length} targets, {percent} %");
                    units.Add(plan.Slabs.Units);
                }

                differ += units.Count > 1 ? 1 : 0;
            }
        }

        Assert.True(differ > 0, "larger budgets have larger slabs");
    }

    [Theory]
    [InlineData(4, 2, 64, 16)]
    [InlineData(8, 4, 128, 64)]
    [InlineData(32, 8, 128, 64)]
    public void The_least_budget_of_adaptive_is_that_of_h2o_within_a_hundredth(int layers, int heads, int width, int pageTokens)
    {
        var geometry = new KvGeometry(layers, 4 * heads, heads, width, pageTokens: pageTokens);
        long Least(KvPolicy policy, params KvFormats[] targets) => KvCache.BytesFor(
            geometry, new KvCacheOptions { MaxTokens = 8_192, MaxSequences = 1, MaxBatchTokens = 16, Policy = policy, DemotionFormats = targets }).MinimumBytes;
        long h2o = Least(new H2oPolicy());
        Assert.InRange(Least(new AdaptivePolicy()), h2o, h2o * 1.01);
    }

    private static BudgetPlan PlanOf(KvCacheOptions options, KvGeometry geometry)
    {
        PageClasses classes = OptionsCheck.ClassesFor(options, geometry);
        return new BudgetPlan(classes, options, CacheCreation.BookkeepingOf(classes.Shape, options), default);
    }
}
