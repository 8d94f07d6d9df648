namespace KvCacheGpu.Tests.Snapshots;

/// <summary>What is saved comes back, bit for bit, and goes on as if it had never been away.</summary>
public sealed class RoundTripTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;
    private static readonly KvGeometry Wide = new(layers: 2, queryHeads: 4, kvHeads: 2, keyWidth: 32, pageTokens: 4);

    public static TheoryData<string> Pairs => [.. TestCaches.NaturalPairs.Select(pair => $"{pair.Key.Name()}/{pair.Value.Name()}")];

    // Merged pages are refused by name; the adaptive policy's experts, the random one's numbers and the queries that expected attention foresees begin anew.
    public static TheoryData<string> Policies =>
        [.. TightCaches.Names.Where(name => name is not ("adaptive" or "random" or "expected-attention") && !name.StartsWith("merge:", StringComparison.Ordinal))];

    [Theory]
    [MemberData(nameof(Pairs))]
    public void Every_format_comes_back_with_its_forks(string pair)
    {
        KvFormats formats = FormatsOf(pair);
        using KvCache cache = TestCaches.Simd(Wide, LiveCaches.Config(formats));
        using KvCache other = TestCaches.Simd(Wide, LiveCaches.Config(formats));
        CheckRoundTrip(cache, other);
    }

    [Theory]
    [InlineData("f16/f16")]
    [InlineData("t4/v4")]
    public void The_same_on_the_kernels_that_a_gpu_runs(string pair)
    {
        KvCacheOptions config = LiveCaches.Config(FormatsOf(pair));
        config.Device = "ilgpu-cpu";
        using var cache = new KvCache(G, config);
        using var other = new KvCache(G, config);
        CheckRoundTrip(cache, other);
    }

    [Theory]
    [InlineData("f16/f16")]
    [InlineData("t4/v4")]
    public void Scale_and_cap_are_no_part_of_what_is_saved(string pair)
    {
        using KvCache cache = TestCaches.Simd(G, LiveCaches.Config(FormatsOf(pair)));
        using KvCache other = TestCaches.Simd(G with { AttentionScale = 0.9f, LogitSoftCap = 1.25f }, LiveCaches.Config(FormatsOf(pair)));
        SnapshotStore store = LiveCaches.Store();
        KvSequence saved = cache.CreateSequence();
        saved.FeedMany(1, 22);
        cache.Saved(store);
        KvSequence restored = Assert.Single(other.Restored(store).Sequences);
        Assert.Equal(LiveCaches.Transcript([saved]), LiveCaches.Transcript([restored]));
        restored.CheckedStep(23);
    }

    [Theory]
    [MemberData(nameof(Policies))]
    public void Eviction_after_a_restore_decides_as_without_it(string policy)
    {
        KvCacheOptions config = TightCaches.Config(policy, new KvFormats(PageFormat.I8, PageFormat.I8), maxSequences: 3);
        (config.PoisonPages, config.MaxSequenceTokens, config.Watermark) = (true, 128, 0.3);
        config.MemoryBudgetBytes = TightCaches.MinimumOf(config, (g, c) => TestCaches.Simd(g, c)) + 2048;
        using KvCache cache = TestCaches.Simd(G, config);
        using KvCache other = TestCaches.Simd(G, config);
        KvSequence sequence = cache.CreateSequence();
        sequence.CheckedStep([.. Enumerable.Range(1, 12)]);
        sequence.Pin(4, 2);
        LiveCaches.GoOn([sequence], 30);
        Assert.True(sequence.EvictedTokens > 0, "nothing was evicted");
        SnapshotStore store = LiveCaches.Store();
        cache.Saved(store);
        KvRestored restored = other.Restored(store);
        Assert.True(restored.IsExact, string.Join("; ", restored.Notes));
        Assert.Equal(sequence.EvictedTokens, restored.Sequences[0].EvictedTokens);
        Assert.Equal(LiveCaches.Transcript([sequence]), LiveCaches.Transcript(restored.Sequences));
        for (int step = 0; step < 40; step++)
        {
            Assert.Equal(LiveCaches.GoOn([sequence], 1), LiveCaches.GoOn(restored.Sequences, 1));
            Assert.Equal(LiveCaches.Transcript([sequence]), LiveCaches.Transcript(restored.Sequences));
        }
    }

    [Fact]
    public void Demoted_and_kept_pages_come_back_with_what_they_went_through()
    {
        KvCacheOptions config = LiveCaches.Config(new KvFormats(PageFormat.I8, PageFormat.I8));
        config.DemotionFormats = [new(PageFormat.T4, PageFormat.V4), new(PageFormat.T2, PageFormat.V2)];
        using KvCache cache = TestCaches.Simd(G, config);
        using KvCache other = TestCaches.Simd(G, config);
        KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 20);
        KvSequence fork = sequence.Fork();
        Assert.True(sequence.Demote(0, 0, 1, config.DemotionFormats[0]));
        Assert.True(fork.Demote(1, 1, 2, config.DemotionFormats[1]));
        SnapshotStore store = LiveCaches.Store();
        cache.Saved(store);
        KvRestored restored = other.Restored(store);
        Assert.True(restored.IsExact);
        Assert.Equal(LiveCaches.Transcript([sequence, fork]), LiveCaches.Transcript(restored.Sequences));
        Assert.Throws<ArgumentException>(() => restored.Sequences[0].Demote(0, 0, 1, config.DemotionFormats[1]));
    }

    [Fact]
    public void One_of_several_comes_alone_with_its_pages_only()
    {
        using KvCache cache = TestCaches.Simd(G, LiveCaches.Config(new KvFormats(PageFormat.F16, PageFormat.F16)));
        using KvCache other = TestCaches.Simd(G, LiveCaches.Config(new KvFormats(PageFormat.F16, PageFormat.F16)));
        KvSequence[] family = LiveCaches.Family(cache);
        SnapshotStore store = LiveCaches.Store();
        cache.Saved(store, "s", family[4], family[0]);
        KvRestored restored = other.Restored(store, "s", "parent");
        Assert.Equal(LiveCaches.Transcript([family[0]]), LiveCaches.Transcript(restored.Sequences));
        long tables = restored.Sequences[0].State.Table.Leaves * other.State.Tier.Map.LeafBytes;
        Assert.Equal(family[0].AllocatedBytes + tables, other.State.Pool.LiveBytes);
        Assert.Equal("E002", Assert.Throws<KvSnapshotNotFoundException>(() => other.Restored(store, "s", "nobody")).Code);
    }

    [Fact]
    public void What_was_loaded_without_a_name_is_saved_again_beside_others_without_one()
    {
        using KvCache cache = TestCaches.Simd(G, LiveCaches.Config(new KvFormats(PageFormat.F16, PageFormat.F16)));
        KvSequence[] first = [cache.CreateSequence(), cache.CreateSequence()];
        SnapshotStore store = LiveCaches.Store();
        cache.Saved(store);
        first[0].Dispose();
        first[1].Dispose();
        KvSequence one = cache.Restored(store, "s", "1").Sequences[0];
        KvSequence[] others = [cache.CreateSequence(), cache.CreateSequence()];
        cache.Saved(store, "t", others[0], others[1], one);
        using KvCache elsewhere = TestCaches.Simd(G, LiveCaches.Config(new KvFormats(PageFormat.F16, PageFormat.F16)));
        Assert.Equal(["0", "2", "1"], elsewhere.Restored(store, "t").Sequences.Select(sequence => sequence.Name));
    }

    [Fact]
    public void Prefixes_are_hit_again_by_the_same_tenant_and_salt_only()
    {
        KvCacheOptions config = LiveCaches.Config(new KvFormats(PageFormat.I8, PageFormat.I8));
        config.PrefixReuse = true;
        using KvCache cache = TestCaches.Simd(G, config);
        using KvCache other = TestCaches.Simd(G, config);
        KvSequence[] family = LiveCaches.Family(cache);
        SnapshotStore store = LiveCaches.Store();
        cache.Saved(store);
        KvRestored restored = other.Restored(store);
        Assert.Equal(LiveCaches.Transcript(family), LiveCaches.Transcript(restored.Sequences));
        using KvSequence mine = other.CreateSequence(family[0].Options);
        Assert.Equal(16, mine.Reuse(family[0].TokenIds));
        mine.Dispose();
        using KvSequence theirs = other.CreateSequence(family[0].Options with { Salt = null });
        Assert.Equal(0, theirs.Reuse(family[0].TokenIds));
        Assert.Equal(LiveCaches.GoOn(family, 9), LiveCaches.GoOn(restored.Sequences, 9));
    }

    private static void CheckRoundTrip(KvCache cache, KvCache other)
    {
        KvSequence[] family = LiveCaches.Family(cache);
        SnapshotStore store = LiveCaches.Store();
        string before = LiveCaches.Transcript(family);
        SnapshotInfo info = cache.Saved(store);
        Assert.Equal(before, LiveCaches.Transcript(family));
        Assert.Equal(cache.State.Pool.OpenSlots + cache.State.Pool.SealedSlots, info.Pages);
        KvRestored restored = other.Restored(store);
        Assert.True(restored.IsExact, string.Join("; ", restored.Notes));
        Assert.Equal(info.Pages, restored.ExactPages);
        Assert.Equal(before, LiveCaches.Transcript(restored.Sequences));
        Assert.Equal(cache.State.Pool.LiveBytes, other.State.Pool.LiveBytes);
        Assert.Equal(LiveCaches.GoOn(family, 9), LiveCaches.GoOn(restored.Sequences, 9));
        Assert.Equal(LiveCaches.Transcript(family), LiveCaches.Transcript(restored.Sequences));
        foreach (KvSequence sequence in restored.Sequences)
        {
            sequence.Dispose();
        }

        Assert.Equal(default, other.GetPageCounts());
    }

    private static KvFormats FormatsOf(string pair)
    {
        Assert.True(PageFormats.TryParse(pair.Split('/')[0], out PageFormat keys));
        Assert.True(PageFormats.TryParse(pair.Split('/')[1], out PageFormat values));
        return new KvFormats(keys, values);
    }
}
