namespace KvCacheGpu.Tests;

/// <summary>Every score by hand.</summary>
public sealed class ScorerTests
{
    [Fact]
    public void Lru_and_lfu_rank_by_the_last_use_and_by_uses()
    {
        TestPages pages = TestPages.Full(1, 4);
        (pages.Step, pages.LastUsed, pages.Uses) = (10, [9, 2, 10, 2], [3, 9, 1, 0]);
        Assert.Equal([-1f, -8f, 0f, -8f], pages.Scores(new LruPolicy()));
        Assert.Equal([3f, 9f, 1f, 0f], pages.Scores(new LfuPolicy()));

        // Of the two pages last used in step 2 the lower position stays.
        Assert.Equal([3], pages.Dropped(new LruPolicy(), 100));
        Assert.Equal([1, 3], pages.Dropped(new LruPolicy(), 200));
        Assert.Equal([2, 3], pages.Dropped(new LfuPolicy(), 101));
    }

    [Fact]
    public void Lru_tells_steps_apart_beyond_the_precision_of_a_score()
    {
        TestPages pages = TestPages.Full(1, 2);
        (pages.Step, pages.LastUsed) = (1_000_000_003, [1_000_000_001, 1_000_000_002]);
        Assert.Equal([0], pages.Dropped(new LruPolicy(), 1));
    }

    [Fact]
    public void H2o_ranks_by_mass_and_spares_new_tokens()
    {
        TestPages pages = TestPages.Full(1, 4);
        (pages.Length, pages.Mass) = (16, [0.5f, 0.25f, 0.1f, 0f]);
        Assert.Equal([0.5f, 0.25f, float.PositiveInfinity, float.PositiveInfinity], pages.Scores(new H2oPolicy(graceTokens: 5)));
        Assert.Equal([0.5f, 0.25f, 0.1f, float.PositiveInfinity], pages.Scores(new H2oPolicy(graceTokens: 4)));
        Assert.Equal([0.5f, 0.25f, 0.1f, 0f], pages.Scores(new H2oPolicy(graceTokens: 0)));
        Assert.Equal((0.98f, 16), (new H2oPolicy().Decay, new H2oPolicy().GraceTokens));

        // Grace is a rank: where nothing else is left, the new go too.
        Assert.Equal([0, 1, 3], pages.Dropped(new H2oPolicy(graceTokens: 5), 300));
    }

    [Fact]
    public void Tova_takes_the_mean_over_the_heads_of_the_layer()
    {
        var pages = new TestPages(new KvGeometry(2, 2, 2, 8, pageTokens: 4), [0, 1, 2], [0, 2], [1], [1])
        {
            LastMass = [0.2f, 0.6f, 0.2f, 0.8f, 0.2f, 0.25f, 0.5f],
        };
        Assert.Equal([0.5f, 0.3f, 0.2f, 0.5f, 0.2f, 0.375f, 0.375f], pages.Scores(new TovaPolicy()));
    }

    [Theory]
    [InlineData(1, 0.2, 0.2, 0.2)]
    [InlineData(2, 0.4, 0.3, 0)]
    [InlineData(64, 1 - (1.2 / 64), 0.6 / 64, 0)]
    public void Snapkv_pools_over_five_tokens_whatever_the_page(int pageTokens, double own, double next, double second)
    {
        double[] weights = [.. Enumerable.Range(0, 3).Select(d => (double)SnapKvPolicy.Weight(d, pageTokens))];
        Assert.All(new[] { own, next, second }.Zip(weights), x => Assert.Equal(x.First, x.Second, 1e-6));
        Assert.Equal(1, weights[0] + (2 * (weights[1] + weights[2])), 1e-6);
    }

    [Fact]
    public void Snapkv_pools_neighbours_and_keeps_what_came_after_the_prompt()
    {
        var pages = new TestPages(TestPages.OneLayer(1, pageTokens: 2), [0, 1, 3, 4, 5, 6]) { WindowMass = [10, 0, 0, 20, 0, 0] };
        float[] scores = pages.Scores(new SnapKvPolicy());
        Assert.All(new[] { 4f, 3f, 6f, 8f, 9f, 10f }.Zip(scores), x => Assert.Equal(x.First, x.Second, 1e-5f));

        // Nothing known of a prompt: the oldest goes first.
        pages.WindowMass = new float[6];
        Assert.Equal([0, 1], pages.Dropped(new SnapKvPolicy(), 200));
    }

    [Fact]
    public void Keydiff_keeps_the_keys_unlike_the_others_at_any_length()
    {
        TestPages pages = TestPages.Full(2, 3);
        pages.KeyMean = new float[6 * 8];
        (pages.KeyMean[0], pages.KeyMean[8], pages.KeyMean[17]) = (1, 7, 3);
        float[] scores = pages.Scores(new KeyDiffPolicy());
        Assert.All(new[] { -2 / MathF.Sqrt(5), -2 / MathF.Sqrt(5), -1 / MathF.Sqrt(5), 0, 0, 0 }.Zip(scores), x => Assert.Equal(x.First, x.Second, 1e-6f));
    }

    [Fact]
    public void Expected_attention_is_the_softmax_of_what_future_queries_meet_times_the_value()
    {
        TestPages pages = TestPages.Full(1, 2);
        pages.KeyMean = new float[16];
        (pages.KeyMean[0], pages.KeyMean[9]) = (2, 4);
        (pages.FutureQueryMean, pages.FutureQueryVariance) = (new float[8], new float[8]);
        (pages.FutureQueryMean[0], pages.FutureQueryVariance[1]) = (3, 0.5f);
        pages.ValueSquare = [4, 9];
        double a = Math.Exp(6 / Math.Sqrt(8));
        double b = Math.Exp(0.5 * 16 / 16);
        float[] scores = pages.Scores(new ExpectedAttentionPolicy());
        Assert.Equal(2 * a / (a + b), scores[0], 1e-5);
        Assert.Equal(3 * b / (a + b), scores[1], 1e-5);
        pages.FutureQueryVariance = null;
        KvUnsupportedException refused = Assert.Throws<KvUnsupportedException>(() => pages.Scores(new ExpectedAttentionPolicy()));
        Assert.Equal("E009", refused.Code);
        Assert.Contains("FutureQueryVariance", refused.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(60000f, 3e31f, -2e15f)]
    [InlineData(65504f, 0f, 9e15f)]
    [InlineData(5e-8f, 1e32f, 1e16f)]
    public void Expected_attention_to_huge_queries_has_one_winner_and_no_page_that_is_no_number(float key, float variance, float mean)
    {
        TestPages pages = TestPages.Full(1, 3);
        pages.KeyMean = [.. Enumerable.Repeat(key, 8), .. Enumerable.Repeat(key / 4, 8), .. Enumerable.Repeat(-key, 8)];
        (pages.FutureQueryMean, pages.FutureQueryVariance) = ([.. Enumerable.Repeat(mean, 8)], [.. Enumerable.Repeat(variance, 8)]);
        pages.ValueSquare = [4, 9, float.MaxValue];
        Assert.All(pages.Scores(new ExpectedAttentionPolicy()), score => Assert.True(float.IsFinite(score)));
        float[] keys = [3e38f, -3e38f, 3e38f, -3e38f, 1, 1, 1, 1];
        float[] queries = [1e16f, 1e16f, -1e16f, -1e16f, 1, 1, 1, 1];
        var geometry = new KvGeometry(1, 1, 1, 8);
        Assert.InRange(ExpectedAttentionPolicy.Logit(geometry, keys, queries, new float[8]), 1, 2);
        Assert.InRange(ExpectedAttentionPolicy.Logit(geometry with { LogitSoftCap = 1 }, keys, queries, new float[8]), 0.76f, 0.97f);
    }

    [Theory]
    [InlineData(0.25f, null, 0.5 + 0.375)]
    [InlineData(1f, null, 2 + 6.0)]
    [InlineData(1f, 4f, 3.8561103)]
    [InlineData(0.25f, 0.5f, 0.4706878)]
    public void Expected_logits_obey_the_models_scale_and_cap(float scale, float? cap, double expected)
    {
        // mu.k is 2; half the sum of sigma^2 k^2 is 6.
        var geometry = new KvGeometry(1, 1, 1, 8) { AttentionScale = scale, LogitSoftCap = cap };
        float[] key = [1, 0, 0, 0, 2, 0, 0, 0], mean = [4, 0, 0, 0, -1, 0, 0, 0], variance = [4, 9, 9, 9, 2, 9, 9, 9];
        Assert.Equal(expected, ExpectedAttentionPolicy.Logit(geometry, key, mean, variance), 1e-5);
    }

    [Fact]
    public void Dropkv_is_the_error_of_the_output()
    {
        TestPages pages = TestPages.Full(2, 2);
        double whole = (1 - Math.Pow(0.98, 30)) / 0.02;
        (pages.Samples, pages.Mass) = (30, [(float)(whole / 2), (float)(whole / 4), 0, (float)(whole / 5)]);
        (pages.ValueSquare, pages.OutputSquare) = ([3, 18, 7, 16], [1, 2]);
        float[] scores = pages.Scores(new DropKvPolicy());
        Assert.All(new[] { 4f, 19f / 9, 0f, 18f / 16 }.Zip(scores), x => Assert.Equal(x.First, x.Second, 1e-4f));

        // Not told how many steps were sampled, the fullest row is the measure; all there is still has a price.
        (pages.Samples, pages.Mass) = (0, [2, 2, 1, 0]);
        Assert.Equal(4f, pages.Scores(new DropKvPolicy())[0], 1e-4f);
        pages.Mass = [4, 0, 0, 0];
        Assert.True(float.IsFinite(pages.Scores(new DropKvPolicy())[0]));
    }

    [Fact]
    public void Random_is_the_same_for_a_page_whatever_lies_around_it()
    {
        TestPages all = TestPages.Full(2, 50);
        float[] scores = all.Scores(new RandomPolicy(3));
        Assert.Equal(scores, all.Scores(new RandomPolicy(3)));
        Assert.NotEqual(scores, all.Scores(new RandomPolicy(4)));
        Assert.True(scores.Distinct().Count() > 95);
        var some = new TestPages(all.Geometry, [7], [0, 49]);
        Assert.Equal([scores[7], scores[50], scores[99]], some.Scores(new RandomPolicy(3)));
    }

    [Fact]
    public void The_oracle_is_told()
    {
        var pages = new TestPages(TestPages.OneLayer(2), [0, 3], [3]);
        Assert.Equal([0f, 3f, 13f], pages.Scores(new OraclePolicy((row, page) => (10 * row) + page)));
        Assert.Throws<ArgumentNullException>(() => new OraclePolicy(null!));
    }

    [Theory]
    [InlineData("lru", "LastUsed")]
    [InlineData("lfu", "Uses")]
    [InlineData("h2o", "Mass")]
    [InlineData("tova", "LastMass")]
    [InlineData("snapkv", "WindowMass")]
    [InlineData("keydiff", "KeyMean")]
    [InlineData("expected-attention", "KeyMean")]
    [InlineData("dropkv", "Mass")]
    [InlineData("adakv", "Mass")]
    [InlineData("adaptive", "Mass")]
    public void What_was_not_gathered_is_named(string name, string statistic)
    {
        Assert.True(KvPolicies.TryParse(name, out KvPolicy? policy));
        Assert.NotEqual(KvStatistics.None, policy!.Needs);
        KvUnsupportedException refused = Assert.Throws<KvUnsupportedException>(() => TestPages.Full(1, 2).Plan(policy, 100));
        Assert.Contains(statistic + " ", refused.Expected, StringComparison.Ordinal);
    }
}
