namespace KvCacheGpu.Tests;

/// <summary>Budgets that bind: the least one, pins, segments, idle sequences, and what a policy is asked with.</summary>
public sealed class BudgetBindsTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;
    private static readonly KvFormats F32 = new(PageFormat.F32, PageFormat.F32);
    private static readonly KvFormats I8 = new(PageFormat.I8, PageFormat.I8);

    public static TheoryData<string, PageFormat> Policies()
    {
        var cases = new TheoryData<string, PageFormat>();
        foreach (string name in TightCaches.Names)
        {
            cases.Add(name, PageFormat.F16);
            cases.Add(name, PageFormat.I8);
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(Policies))]
    public void The_least_budget_steps_on_for_ever(string policy, PageFormat format)
    {
        KvCacheOptions config = TightCaches.Config(policy, new KvFormats(format, format), maxSequences: 1);
        long minimum = TightCaches.MinimumOf(config, Simd);
        config.MemoryBudgetBytes = minimum - 1;
        Assert.Equal("E003", Assert.Throws<KvConfigurationException>(() => Simd(G, config)).Code);
        config.MemoryBudgetBytes = minimum;
        using KvCache cache = Simd(G, config);
        using KvSequence sequence = cache.CreateSequence();
        for (int id = 0; id < config.MaxTokens; id++)
        {
            sequence.Decode(id);
            Assert.InRange(cache.AllocatedBytes, 1, minimum);
            Assert.True(sequence.Holds(0, Math.Min(2, id + 1)) && sequence.Holds(Math.Max(0, id - 5), id + 1), "sinks and window stay");
        }
    }

    [Theory]
    [InlineData("lru", PageFormat.F16, 0, 1100)]
    [InlineData("lru", PageFormat.I8, 4, 1100)]
    [InlineData("adakv:snapkv", PageFormat.F32, 0, 256)]
    [InlineData("h2o", PageFormat.F32, 16, 1100)]
    [InlineData("adaptive", PageFormat.I8, 16, 1100)]
    [InlineData("merge:h2o", PageFormat.I8, 200, 1100)]
    public void The_least_budget_has_room_for_every_leaf_whatever_can_be_rolled_back(string policy, PageFormat format, int rollback, int tokens)
    {
        KvCacheOptions config = TightCaches.Config(policy, new KvFormats(format, format), maxSequences: 1);
        (config.MaxSequenceTokens, config.ExactRollbackTokens) = (tokens, rollback);
        config.MemoryBudgetBytes = TightCaches.MinimumOf(config, Simd);
        using KvCache cache = Simd(G, config);
        using KvSequence sequence = cache.CreateSequence();
        for (int id = 0; id < tokens; id++)
        {
            sequence.Feed(id);
            Assert.InRange(cache.AllocatedBytes, 1, cache.BudgetBytes);
        }

        Assert.Equal(cache.State.Tier.Map.Leaves, sequence.State.Table.Leaves);
        Assert.False(sequence.TryBegin([1], out _));
    }

    [Fact]
    public void Whatever_is_above_the_least_budget_is_enough()
    {
        KvCacheOptions config = TightCaches.Config("adaptive", new KvFormats(PageFormat.I8, PageFormat.I8), maxSequences: 1);
        long minimum = TightCaches.MinimumOf(config, Simd);
        for (long budget = minimum; budget < 3 * minimum; budget += 997)
        {
            // Slabs differ from budget to budget; what is refused does not.
            config.MemoryBudgetBytes = budget;
            Assert.Equal(minimum, TightCaches.MinimumOf(config, Simd));
            using KvCache cache = Simd(G, config);
            using KvSequence sequence = cache.CreateSequence();
            for (int id = 0; id < 40; id++)
            {
                sequence.Decode(id);
            }

            Assert.InRange(cache.AllocatedBytes, 1, budget);
        }
    }

    [Fact]
    public void Pinned_tokens_stay_until_they_are_given_up()
    {
        KvCacheOptions config = TightCaches.Config("lru", F32);
        config.MemoryBudgetBytes = TightCaches.MinimumOf(config, Simd) + 16_000;
        using KvCache cache = Simd(G, config);
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 24);
        sequence.Pin(9, 6);
        using (KvSequence fork = sequence.Fork())
        {
            sequence.Dispose();
            for (int id = 0; id < 100; id++)
            {
                fork.Decode(id);
                Assert.True(fork.Holds(9, 15), "pinned");
            }

            Assert.False(fork.Holds(4, 8));
            fork.Unpin(9, 3);
            for (int id = 0; id < 40; id++)
            {
                fork.Decode(id);
            }

            Assert.True(fork.Holds(12, 15) && !fork.Holds(9, 12), "what is still pinned stays");
            Assert.Throws<ArgumentOutOfRangeException>(() => fork.Pin(fork.Length, 1));
            Assert.Throws<ArgumentOutOfRangeException>(() => fork.Pin(-1, 1));
            Assert.Throws<ArgumentOutOfRangeException>(() => fork.Unpin(0, -1));
        }
    }

    [Fact]
    public void With_all_pinned_a_step_is_refused_and_unpinned_it_begins()
    {
        KvCacheOptions config = TightCaches.Config("h2o", F32);
        config.MemoryBudgetBytes = TightCaches.MinimumOf(config, Simd) + 9_000;
        using KvCache cache = Simd(G, config);
        using KvSequence sequence = cache.CreateSequence();
        int id = 0;
        for (; sequence.CanAppend(1) && id < 200; id++)
        {
            sequence.Decode(id);
            sequence.Pin(0, sequence.Length);
        }

        Assert.InRange(id, 20, 100);
        Assert.Equal(0, sequence.EvictedTokens);
        Assert.False(sequence.TryBegin([1], out _));
        Assert.Equal("E001", Assert.Throws<KvOutOfMemoryException>(() => sequence.Begin([1])).Code);
        sequence.Unpin(0, sequence.Length);
        Assert.True(sequence.CanAppend(1));
        sequence.Decode(1);
        Assert.True(sequence.EvictedTokens > 0);
    }

    [Fact]
    public void Idle_sequences_give_way_the_least_recently_stepped_first()
    {
        KvCacheOptions config = TightCaches.Config("h2o", F32, maxSequences: 3);
        config.Watermark = 1;
        config.MemoryBudgetBytes = TightCaches.MinimumOf(config, Simd) + 60_000;
        using KvCache cache = Simd(G, config);
        using KvSequence old = cache.CreateSequence();
        using KvSequence recent = cache.CreateSequence();
        using KvSequence active = cache.CreateSequence();
        old.FeedMany(1, 80);
        recent.FeedMany(1000, 60);
        for (int id = 0; old.EvictedTokens == 0 && id < 100; id++)
        {
            active.Pin(0, active.Length);
            active.Decode(id);
        }

        Assert.True(old.EvictedTokens > 0, "the oldest gives");
        Assert.Equal((0.0, 0.0), (recent.EvictedTokens, active.EvictedTokens));
        old.CheckedStep(7);
    }

    [Fact]
    public void A_system_prompt_does_not_vanish_first()
    {
        // Position decides: without segments, the oldest pages go whatever they are.
        KvCacheOptions config = TightCaches.Config("window", F32, maxSequences: 1);
        config.Policy = new OldestFirst { SinkTokens = 0, WindowTokens = 4, SegmentFloor = 0.8f };
        config.MemoryBudgetBytes = TightCaches.MinimumOf(config, Simd) + 10_000;
        Assert.Equal(0, SystemTokens(mark: false));
        Assert.InRange(SystemTokens(mark: true), 4, 40);

        int SystemTokens(bool mark)
        {
            using KvCache cache = Simd(G, config);
            using KvSequence sequence = cache.CreateSequence();
            sequence.FeedMany(1, 40);
            if (mark)
            {
                sequence.MarkSegment();
            }

            for (int id = 0; id < 60; id++)
            {
                sequence.Decode(1000 + id);
            }

            var positions = new int[256];
            int count = sequence.ResidentPositions(0, 0, positions);
            return positions[..count].Count(p => p < 40);
        }
    }

    [Fact]
    public void Shared_pages_stay_with_their_other_readers()
    {
        KvCacheOptions config = TightCaches.Config("adaptive", I8);
        config.MemoryBudgetBytes = TightCaches.MinimumOf(config, Simd) + 60_000;
        using KvCache cache = Simd(G, config);
        using KvSequence sequence = cache.CreateSequence();
        for (int id = 0; id < 60; id++)
        {
            sequence.Decode(id);
        }

        using KvSequence fork = sequence.Fork();
        (float[] keys, float[] values) = sequence.Materialized(1);
        Assert.True(fork.CanAppend(1));
        while (fork.Length < 120)
        {
            fork.Decode(fork.Length);
        }

        Assert.Equal(keys, sequence.Materialized(1).Keys);
        Assert.Equal(values, sequence.Materialized(1).Values);
    }

    [Fact]
    public void Adaptive_shrinks_before_it_drops()
    {
        // Narrow heads save nothing in few bits.
        var wide = new KvGeometry(layers: 2, queryHeads: 4, kvHeads: 2, keyWidth: 64, pageTokens: 16);
        KvCacheOptions config = TightCaches.Config("adaptive", I8, maxSequences: 1);
        config.MaxTokens = 1024;
        config.MemoryBudgetBytes = TightCaches.MinimumOf(config, Simd, wide) + 60_000;
        using KvCache cache = Simd(wide, config);
        using KvSequence sequence = cache.CreateSequence();
        int shrunk = 0;
        for (int id = 0; sequence.EvictedTokens == 0 && id < 1000; id++)
        {
            sequence.Decode(id);
            shrunk = Math.Max(shrunk, cache.GetPageCounts().ByFormats.Where(f => f.Formats.Key is PageFormat.T3 or PageFormat.T2).Sum(f => f.Sealed));
        }

        Assert.True(shrunk > 8, $"{shrunk} pages");
    }

    [Fact]
    public void Token_mass_is_the_softmax_over_what_is_resident()
    {
        KvCacheOptions config = TightCaches.Config("window", F32);
        using KvCache cache = Simd(G, config);
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 40);
        float[] query = TokenContent.Queries(G, 1, [99])[8..16];
        var mass = new float[40];
        var positions = new int[40];
        int count = sequence.TokenMass(1, 1, query, mass);
        Assert.Equal(count, sequence.ResidentPositions(1, 0, positions));
        Assert.InRange(count, 8, 39);
        double[] expected = [.. positions[..count].Select(p => Math.Exp(Enumerable.Range(0, 8).Sum(
            e => (double)query[e] * TokenContent.Keys(G, 1, [p + 1])[e]) / Math.Sqrt(8)))];
        Assert.All(Enumerable.Range(0, count), i => Assert.Equal(expected[i] / expected.Sum(), mass[i], 1e-5));
        Assert.Throws<ArgumentException>(() => sequence.TokenMass(1, 1, query, new float[count - 1]));
        Assert.Throws<ArgumentOutOfRangeException>(() => sequence.TokenMass(1, 4, query, mass));
    }

    [Fact]
    public void A_policy_is_asked_with_what_was_measured()
    {
        KvCacheOptions config = TestCaches.Config(I8);
        var spy = new Spy { SinkTokens = 2, WindowTokens = 8 };
        (config.Policy, config.DemotionFormats) = (spy, [new(PageFormat.T2, PageFormat.V2)]);
        using KvCache cache = Simd(G, config);
        using KvSequence sequence = cache.CreateSequence();
        for (int id = 0; id < 41; id++)
        {
            sequence.Decode(id);
        }

        spy.Look = true;
        sequence.Decode(41);
        Assert.True(spy.Looked);
    }

    [Fact]
    public void Settings_out_of_range_are_E003()
    {
        Refused(new KvCacheOptions { Watermark = 0 });
        Refused(new KvCacheOptions { Watermark = 1.01 });
        Refused(new KvCacheOptions { Watermark = double.NaN });
        Refused(new KvCacheOptions { PlanEvery = 0 });
        Refused(new KvCacheOptions { ScoreEvery = 0 });
        Refused(new KvCacheOptions { ObservedQueries = 0 });
        Refused(new KvCacheOptions { ObservedQueries = 65 });
        Refused(new KvCacheOptions { MergePages = true });
        Refused(new KvCacheOptions { MergePages = true, Policy = new H2oPolicy() }, G with { Rope = null });
    }

    [Fact]
    public void Expected_attention_is_refused_by_name_where_the_geometry_has_no_rope()
    {
        var config = new KvCacheOptions { Device = "cpu", Policy = new AdaptivePolicy(new H2oPolicy(), new ExpectedAttentionPolicy()) };
        KvConfigurationException refused = Assert.Throws<KvConfigurationException>(() => Simd(G with { Rope = null }, config));
        Assert.Equal("E003", refused.Code);
        Assert.Contains("Rope", refused.Message, StringComparison.Ordinal);
        Assert.Contains(nameof(AdaptivePolicy), refused.Message, StringComparison.Ordinal);
        using KvCache cache = Simd(G, config);
    }

    private static KvCache Simd(KvGeometry geometry, KvCacheOptions config) => TestCaches.Simd(geometry, config);

    private static void Refused(KvCacheOptions config, KvGeometry? geometry = null) =>
        Assert.Equal("E003", Assert.Throws<KvConfigurationException>(() => Simd(geometry ?? G, config)).Code);

    private sealed class OldestFirst : RankedPolicy
    {
        public override void Score(in KvPages pages, Span<float> scores)
        {
            for (int page = 0; page < pages.Count; page++)
            {
                scores[page] = pages.PageIndex[page];
            }
        }
    }

    /// <summary>Looks at what it is shown once.</summary>
    private sealed class Spy : KvPolicy
    {
        public bool Look { get; set; }

        public bool Looked { get; private set; }

        public override bool ActsUnasked => true;

        public override KvStatistics Needs => KvStatistics.Mass | KvStatistics.KeyMeans | KvStatistics.Queries;

        public override void Plan(in KvPages pages, long bytesToFree, Span<KvTransition> plan, object? state)
        {
            plan.Clear();
            if (!Look)
            {
                return;
            }

            // 42 tokens: pages 0..8 are sealed and a whole page behind, of 4 rows.
            Assert.Equal((4 * 9, 0L, 42L), (pages.Count, bytesToFree, pages.Samples));
            Assert.Equal([true, false, false, false, false, false, false, false, true], pages.Fixed[..9].ToArray());
            for (int row = 0; row < 4; row++)
            {
                float sum = 0;
                foreach (float mass in pages.LastMass[pages.RowStarts[row]..pages.RowStarts[row + 1]])
                {
                    sum += mass;
                }

                Assert.InRange(sum, 0.1f, 1f);
            }

            for (int page = 0; page < pages.Count; page++)
            {
                (int layer, int head) = (page / 18, page / 9 % 2);
                int[] ids = [.. Enumerable.Range(pages.PageIndex[page] * 4, 4)];
                Assert.Equal(Squares(TokenContent.Keys(G, layer, ids), head), pages.KeySquare[page], 1e-3);
                Assert.Equal(Squares(TokenContent.Values(G, layer, ids), head), pages.ValueSquare[page], 1e-3);
                float[] keys = TokenContent.Keys(G, layer, ids);
                for (int e = 0; e < 8; e++)
                {
                    Assert.Equal(ids.Select((_, t) => keys[(((t * 2) + head) * 8) + e]).Average(), pages.KeyMean[(page * 8) + e], 1e-2);
                }

                Assert.Equal(1 << 2, pages.Ladder[pages.Class[page]].DemotesTo);
                Assert.True(pages.Bytes[page] >= pages.Ladder[2].Bytes && pages.Mass[page] > pages.LastMass[page] && pages.Peak[page] > 0);
            }

            Assert.True(pages.QuerySquare[0] > 1 && pages.OutputSquare[3] > 0);
            Looked = true;
        }

        private static float Squares(float[] vectors, int head) =>
            Enumerable.Range(0, 4).Sum(t => Enumerable.Range(0, 8).Sum(e => vectors[(((t * 2) + head) * 8) + e] * vectors[(((t * 2) + head) * 8) + e])) / 4;
    }
}
