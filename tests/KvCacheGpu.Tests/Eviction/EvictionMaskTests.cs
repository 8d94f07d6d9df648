namespace KvCacheGpu.Tests;

/// <summary>Attention after eviction is attention with the dropped tokens masked: over sealed and open pages, in forks, in batches.</summary>
public sealed class EvictionMaskTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;
    private static readonly KvFormats I8 = new(PageFormat.I8, PageFormat.I8);

    public static TheoryData<string, PageFormat> Cases()
    {
        var cases = new TheoryData<string, PageFormat>();
        foreach (string name in TightCaches.Names)
        {
            cases.Add(name, PageFormat.F32);
            cases.Add(name, PageFormat.I8);
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void What_is_dropped_is_as_if_masked(string policy, PageFormat format) =>
        Live(TightCaches.Config(policy, new KvFormats(format, format)), Simd, 120);

    [Theory]
    [InlineData("h2o")]
    [InlineData("snapkv")]
    [InlineData("adaptive")]
    [InlineData("merge:h2o")]
    public void What_is_dropped_is_as_if_masked_on_the_device_code(string policy)
    {
        KvCacheOptions config = TightCaches.Config(policy, I8);
        config.Device = "ilgpu-cpu";
        Live(config, (geometry, c) => new KvCache(geometry, c), 110);
    }

    [Fact]
    public void A_batch_gives_in_proportion_and_each_of_its_sequences_is_masked()
    {
        KvCacheOptions config = TightCaches.Config("h2o", I8, maxSequences: 3);
        config.MemoryBudgetBytes = TightCaches.MinimumOf(config, Simd) + 24_000;
        using KvCache cache = TestCaches.Simd(G, config);
        using KvSequence a = cache.CreateSequence();
        using KvSequence b = cache.CreateSequence();
        a.FeedMany(1, 60);
        b.FeedMany(1000, 20);
        for (int i = 0; i < 60; i++)
        {
            using KvStep step = cache.Begin([a, b], [2000 + i, 3000 + i], [1, 1]);
            TestCaches.AppendAll(step, G, [2000 + i, 3000 + i]);
            step.Commit();
            Assert.InRange(cache.AllocatedBytes, 1, cache.BudgetBytes);
        }

        Assert.True(a.EvictedTokens > 0 && b.EvictedTokens > 0, $"{a.EvictedTokens}, {b.EvictedTokens}");
        Assert.True(a.EvictedTokens > b.EvictedTokens, "the longer one gave more");
        a.CheckedStep(1);
        b.CheckedStep(2);
    }

    [Theory]
    [InlineData("h2o", PageFormat.F32)]
    [InlineData("adaptive", PageFormat.I8)]
    [InlineData("snapkv", PageFormat.F16)]
    [InlineData("merge:h2o", PageFormat.I8)]
    public void A_budget_that_never_binds_changes_no_bit(string policy, PageFormat format)
    {
        KvCacheOptions config = TightCaches.Config(policy, new KvFormats(format, format));
        config.MemoryBudgetBytes = 1L << 40;
        KvCacheOptions plain = TestCaches.Config(format);
        using KvCache roomy = TestCaches.Simd(G, config);
        using KvCache without = TestCaches.Simd(G, plain);
        using KvSequence a = roomy.CreateSequence();
        using KvSequence b = without.CreateSequence();
        for (int id = 0; id < 120; id++)
        {
            Assert.Equal(b.Decode(id), a.Decode(id));
        }

        Assert.Equal(0, a.EvictedTokens);
        Assert.Equal(without.GetPageCounts(), roomy.GetPageCounts());
    }

    private static void Live(KvCacheOptions config, Func<KvGeometry, KvCacheOptions, KvCache> make, int tokens)
    {
        config.MaxSequenceTokens = tokens + 10;
        long minimum = TightCaches.MinimumOf(config, make);

        // What forks share, neither can give: so that there is room for what one holds alone, and for its tables.
        config.MemoryBudgetBytes = minimum + 26_000;
        config.Watermark = 0.35;
        using KvCache cache = make(G, config);
        using KvSequence sequence = cache.CreateSequence();
        sequence.CheckedStep([.. Enumerable.Range(1, 20)]);
        for (int id = 21; id < tokens; id++)
        {
            sequence.CheckedStep(id);
            Assert.True(sequence.Holds(0, 2) && sequence.Holds(sequence.Length - 6, sequence.Length), "sinks and window stay");
        }

        Assert.True(sequence.EvictedTokens > 0 || config.DemotionFormats.Sum(f => cache.State.Pool.SealedPages(cache.State.Classes.TargetOf(f))) > 0, "something went or shrank");
        using KvSequence fork = sequence.Fork();
        float[] before = Content(sequence);
        for (int id = 0; id < 9; id++)
        {
            fork.CheckedStep(1000 + id);
        }

        Assert.Equal(before, Content(sequence));
        Assert.InRange(fork.Truncate(tokens).Length, tokens - 4, tokens);
        fork.CheckedStep(2000);
        sequence.CheckedStep(tokens);
    }

    private static KvCache Simd(KvGeometry geometry, KvCacheOptions config) => TestCaches.Simd(geometry, config);

    private static float[] Content(KvSequence sequence)
    {
        var all = new List<float>();
        for (int row = 0; row < G.Layers * G.KvHeads; row++)
        {
            int tokens = sequence.ResidentTokens(row / G.KvHeads, row % G.KvHeads);
            var keys = new float[tokens * G.KeyWidth];
            var values = new float[tokens * G.ValueWidth];
            sequence.Materialize(row / G.KvHeads, row % G.KvHeads, keys, values);
            all.AddRange(keys);
            all.AddRange(values);
        }

        return [.. all];
    }
}
