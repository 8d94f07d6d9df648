namespace KvCacheGpu.Tests;

public sealed class KvPoliciesTests
{
    [Fact]
    public void Every_name_makes_its_policy()
    {
        foreach (string name in KvPolicies.Names)
        {
            Assert.True(KvPolicies.TryParse(name, out KvPolicy? policy));
            Assert.True(KvPolicies.TryParse(name.ToUpperInvariant(), out _));
            string type = policy is null ? "none" : policy.GetType().Name.Replace("Policy", "", StringComparison.Ordinal).ToLowerInvariant();
            Assert.Equal(name.Replace("-", "", StringComparison.Ordinal), type);
        }
    }

    [Fact]
    public void Adakv_wraps_what_is_named_after_it()
    {
        Assert.True(KvPolicies.TryParse("adakv:snapkv", out KvPolicy? policy));
        Assert.Equal(KvStatistics.WindowMass, Assert.IsType<AdaKvPolicy>(policy).Needs);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("h20")]
    [InlineData("oracle")]
    [InlineData("adakv:")]
    [InlineData("adakv:window")]
    [InlineData("adakv:adakv")]
    public void Other_names_are_refused(string? name)
    {
        Assert.False(KvPolicies.TryParse(name, out KvPolicy? policy));
        Assert.Null(policy);
    }

    [Fact]
    public void What_every_policy_keeps_is_checked_and_counted()
    {
        Assert.Equal((4, 64, 0.2f), (new LruPolicy().SinkTokens, new LruPolicy().WindowTokens, new LruPolicy().SegmentFloor));
        Assert.Equal(1 + 4 + 1, new LruPolicy().MostKeptPages(16));
        Assert.Equal(5 + 3, new LruPolicy { SinkTokens = 5, WindowTokens = 2 }.MostKeptPages(1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new LruPolicy { SinkTokens = -1 });
        Assert.Throws<ArgumentOutOfRangeException>(() => new LruPolicy { WindowTokens = 0 });
        Assert.Throws<ArgumentOutOfRangeException>(() => new LruPolicy { SegmentFloor = 1.1f });
        Assert.Throws<ArgumentOutOfRangeException>(() => new H2oPolicy(0));
        Assert.Throws<ArgumentOutOfRangeException>(() => new H2oPolicy(1.1f));
        Assert.Throws<ArgumentOutOfRangeException>(() => new H2oPolicy(1, -1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new AdaKvPolicy(new LruPolicy(), float.NaN));
        Assert.Throws<ArgumentOutOfRangeException>(() => new AdaptivePolicy { LearningRate = -1 });
        Assert.Throws<ArgumentException>(() => new AdaptivePolicy([]));
        Assert.Throws<ArgumentException>(() => new AdaptivePolicy(null!, new LruPolicy()));
        Assert.Equal((1, 9), (new AdaKvPolicy(new LruPolicy { SinkTokens = 1, WindowTokens = 9 }).SinkTokens, new AdaKvPolicy(new LruPolicy { WindowTokens = 9 }).WindowTokens));
    }

    [Fact]
    public void Pages_of_another_shape_are_refused()
    {
        KvGeometry g = TestPages.OneLayer(2);
        Assert.Throws<ArgumentException>(() => new KvPages(g, 8, [0, 1], [0]).Count);
        Assert.Throws<ArgumentException>(() => new KvPages(g, 8, [0, 1, 3], [0, 1]).Count);
        Assert.Throws<ArgumentException>(() => new KvPages(g, 8, [0, 1, 2], [0, 1]) { Mass = [1] }.Count);
        Assert.Throws<ArgumentException>(() => new KvPages(g, 8, [0, 1, 2], [0, 1]) { KeyMean = new float[8] }.Count);
        Assert.Throws<ArgumentException>(() => new KvPages(g, 8, [0, 1, 2], [0, 1]) { OutputSquare = [1] }.Count);
        Assert.Throws<ArgumentOutOfRangeException>(() => KvTransition.DemoteTo(256));
        Assert.Equal(default, KvTransition.Keep);
    }
}
