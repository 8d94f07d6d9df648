using static KvCacheGpu.Tests.BlockIndexFixture;

namespace KvCacheGpu.Tests;

/// <summary>The counters of a cache: each tells what was counted by hand.</summary>
public sealed class CountInstrumentTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Fact]
    public void Steps_and_tokens_count_what_was_committed()
    {
        using KvCache cache = Named("steps");
        using var meter = new MeterReader("steps");
        using KvSequence one = cache.CreateSequence();
        using KvSequence two = cache.CreateSequence();
        one.Feed(1, 2, 3);
        using (KvStep step = cache.Begin([one, two], [4, 5, 6], [1, 2]))
        {
            TestCaches.AppendAll(step, G, [4, 5, 6]);
            step.EnqueueCommit();
        }

        cache.Settle();
        using (one.Begin([7]))
        {
            // Rolled back.
        }

        Assert.Equal((2.0, 6.0), (meter.One("kvcache.steps"), meter.One("kvcache.tokens.appended")));
        Assert.Equal((2.0, 4.0), (meter.One("kvcache.sequences"), meter.One("kvcache.sequences.limit")));
        Assert.Equal(6, meter.One("kvcache.sequences.tokens"));
        Assert.Equal(one.AllocatedBytes + two.AllocatedBytes, meter.One("kvcache.sequences.memory"));
        Assert.Equal(0, meter.One("kvcache.sequences.forgotten"));
    }

    [Fact]
    public void Tenants_are_told_only_if_they_are_asked_for()
    {
        foreach (bool measured in new[] { false, true })
        {
            string name = $"tenants-{measured}";
            using KvCache cache = Named(name, options => options.MeasureTenants = measured);
            using var meter = new MeterReader(name);
            using KvSequence one = cache.CreateSequence(new KvSequenceOptions { Tenant = "acme" });
            using KvSequence two = cache.CreateSequence(new KvSequenceOptions { Tenant = "acme" });
            using KvSequence other = cache.CreateSequence(new KvSequenceOptions { Tenant = "other" });
            one.Feed(1, 2, 3);
            other.Feed(4, 5);
            var expected = measured
                ? new Dictionary<string, double> { [string.Empty] = 0, ["tenant=acme"] = 3, ["tenant=other"] = 2 }
                : new Dictionary<string, double> { [string.Empty] = 5 };
            Assert.Equal(expected, meter.Of("kvcache.sequences.tokens"));
            Assert.Equal(measured ? 2 : 3, meter.Of("kvcache.sequences")[measured ? "tenant=acme" : string.Empty]);
            Assert.Equal(measured ? other.AllocatedBytes : one.AllocatedBytes + other.AllocatedBytes, meter.Of("kvcache.sequences.memory")[measured ? "tenant=other" : string.Empty]);
        }
    }

    [Fact]
    public void A_forgotten_sequence_is_counted()
    {
        using KvCache cache = Named("forgotten");
        using var meter = new MeterReader("forgotten");
        Forget(cache);
        for (int i = 0; i < 50 && cache.ForgottenSequences == 0; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        Assert.Equal(1, meter.One("kvcache.sequences.forgotten"));
    }

    [Fact]
    public async Task Prefixes_count_look_ups_reuse_and_what_lower_tiers_gave()
    {
        var tier = new MapTier("count-tier");
        int[] prompt = Range(1, 38);
        Action<KvCacheOptions> options = o => (o.PrefixReuse, o.ModelFingerprint, o.Tiers, o.TenantQuotas) =
            (true, "toy", [tier], new Dictionary<string, KvTenantQuota> { ["poor"] = new KvTenantQuota { Tokens = 4 } });
        using (KvCache first = Named("prefix-1", options))
        {
            using KvSequence sequence = first.CreateSequence();
            sequence.Read(prompt);
            await first.BackUpAsync();
        }

        using KvCache cache = Named("prefix-2", options);
        using var meter = new MeterReader("prefix-2");
        using KvSequence hit = cache.CreateSequence();
        int reused = hit.Reuse(prompt);
        Assert.Equal(32, reused);
        using KvSequence miss = cache.CreateSequence();
        Assert.Equal(0, miss.Reuse(Range(500, 30)));
        using KvSequence again = cache.CreateSequence();
        Assert.Equal(32, again.Reuse(prompt));
        Assert.Equal((64.0, 32.0), (meter.One("kvcache.tokens.reused"), meter.One("kvcache.tokens.fetched")));
        Assert.Equal(new Dictionary<string, double> { ["result=hit"] = 2, ["result=miss"] = 1, ["result=refused"] = 0 }, meter.Of("kvcache.prefix.lookups"));
        KvFetchCounts fetched = cache.GetFetchCounts();
        Assert.Equal(8, fetched.Fetched);
        Assert.Equal(
            new Dictionary<string, double>
            {
                ["event=fetched"] = fetched.Fetched,
                ["event=late"] = fetched.Late,
                ["event=used"] = fetched.Used,
                ["event=wasted"] = fetched.Wasted,
                ["event=left_out"] = fetched.LeftOut,
            },
            meter.Of("kvcache.prefix.blocks"));

        using var tiers = new MeterReader("count-tier");
        KvTierCounts counts = tier.Counts;
        Assert.Equal((8L, 8L), (counts.Read, counts.Written));
        Assert.Equal(
            new Dictionary<string, double>
            {
                ["event=read tier=count-tier"] = counts.Read,
                ["event=missed tier=count-tier"] = counts.Missed,
                ["event=written tier=count-tier"] = counts.Written,
            },
            tiers.Of("kvcache.tier.blocks"));
        Assert.Equal(
            new Dictionary<string, double> { ["direction=read tier=count-tier"] = counts.BytesRead, ["direction=write tier=count-tier"] = counts.BytesWritten },
            tiers.Of("kvcache.tier.io"));
        Assert.Equal(0, tiers.One("kvcache.tier.errors"));
        tier.Reading = _ => throw new IOException("gone");
        using KvSequence failed = cache.CreateSequence();
        Assert.Equal(0, failed.Reuse(Range(900, 30)));
        Assert.Equal(1, tiers.One("kvcache.tier.errors"));
    }

    [Fact]
    public void A_look_up_that_finds_no_room_is_refused_and_a_refusal()
    {
        using KvCache cache = Named("no-room", options =>
            (options.PrefixReuse, options.TenantQuotas) = (true, new Dictionary<string, KvTenantQuota> { ["poor"] = new KvTenantQuota { Tokens = 40 } }));
        using var meter = new MeterReader("no-room");
        var poor = new KvSequenceOptions { Tenant = "poor" };
        using (KvSequence first = cache.CreateSequence(poor))
        {
            first.Read(Range(1, 38));
        }

        cache.SetTenantQuota("poor", new KvTenantQuota { Tokens = 4 });
        using KvSequence second = cache.CreateSequence(poor);
        Assert.Throws<KvOutOfMemoryException>(() => second.Reuse(Range(1, 38)));
        Assert.Equal(1, meter.Of("kvcache.prefix.lookups")["result=refused"]);
        Assert.Equal(1, meter.Of("kvcache.refusals")["resource=tenant_tokens"]);
        Assert.Equal(0, meter.One("kvcache.tokens.reused"));
    }

    [Fact]
    public async Task Refusals_count_by_what_was_missing()
    {
        using KvCache cache = Named("refusals", options => (options.MaxTokens, options.MaxSequences, options.SwapBudgetBytes, options.MaxSequenceTokens) = (24, 2, 1, 100));
        using var meter = new MeterReader("refusals");
        using KvSequence sequence = cache.CreateSequence();
        using KvSequence other = cache.CreateSequence();
        Assert.Throws<KvOutOfMemoryException>(() => cache.CreateSequence());
        Assert.Throws<KvOutOfMemoryException>(() => sequence.Fork());
        sequence.FeedMany(0, 16);
        Assert.False(other.TryBegin(Range(0, 32), out _));
        Assert.Throws<KvOutOfMemoryException>(() => other.Begin(Range(0, 32)));
        await Assert.ThrowsAsync<KvOutOfMemoryException>(() => cache.SwapOutAsync([sequence]));
        IReadOnlyDictionary<string, double> told = meter.Of("kvcache.refusals");
        Assert.Equal(Enum.GetValues<KvResource>().Length, told.Count);
        Assert.Equal((2.0, 1.0), (told["resource=sequences"], told["resource=swap_bytes"]));
        Assert.Equal(2, told["resource=budget_bytes"] + told["resource=slab_bytes"]);
        Assert.Equal(5, told.Values.Sum());
    }

    [Fact]
    public void Evicted_and_demoted_tokens_are_the_means_over_rows()
    {
        using KvCache cache = Named("evicted", options =>
        {
            (options.KeyFormat, options.ValueFormat, options.FullPrecision) = (PageFormat.F16, PageFormat.F16, PageFormat.F16);
            options.DemotionFormats = [new KvFormats(PageFormat.I8, PageFormat.I8)];
            options.Policy = new WindowPolicy(4, 12);
            options.MemoryBudgetBytes = null;
        });
        using var meter = new MeterReader("evicted");
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(0, 64, chunk: 4);
        Assert.True(sequence.EvictedTokens > 0);
        Assert.Equal(sequence.EvictedTokens, meter.One("kvcache.tokens.evicted"));
        Assert.Equal(0, meter.One("kvcache.tokens.demoted"));

        // One page of 4 tokens, of one of 4 rows.
        Assert.True(sequence.Demote(0, 1, 0, new KvFormats(PageFormat.I8, PageFormat.I8)));
        Assert.Equal(1, meter.One("kvcache.tokens.demoted"));
    }

    [Fact]
    public void Offloaded_pages_count_and_are_not_evicted()
    {
        KvCacheOptions options = OffloadCaches.SmallOptions("lru", new KvFormats(PageFormat.F16, PageFormat.F16));
        options.Name = "offload-counts";
        using KvCache cache = TestCaches.Simd(OffloadCaches.Flat, options);
        using var meter = new MeterReader("offload-counts");
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(0, 480, chunk: 8);
        sequence.Decode(1000);
        KvOffloadCounts counts;
        IReadOnlyDictionary<string, double> told;
        do
        {
            // The next layer's pages may still be on their way.
            (counts, told) = (cache.GetOffloadCounts(), meter.Of("kvcache.offload.pages"));
        }
        while (counts != cache.GetOffloadCounts());

        Assert.True(counts.Offloaded > 0 && counts.Fetched > 0);
        Assert.Equal(
            new Dictionary<string, double>
            {
                ["event=offloaded"] = counts.Offloaded,
                ["event=dropped"] = counts.Dropped,
                ["event=fetched"] = counts.Fetched,
                ["event=staged"] = counts.Staged,
                ["event=left_out"] = counts.LeftOut,
                ["event=prefetched"] = counts.Prefetched,
                ["event=prefetched_used"] = counts.PrefetchedUsed,
                ["event=prefetched_wasted"] = counts.PrefetchedWasted,
            },
            told);
        Assert.Equal((0.0, 0.0), (sequence.EvictedTokens, meter.One("kvcache.tokens.evicted")));
    }

    private static KvCache Named(string name, Action<KvCacheOptions>? change = null)
    {
        KvCacheOptions options = TestCaches.Config();
        options.Name = name;
        change?.Invoke(options);
        return TestCaches.Simd(G, options);
    }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private static void Forget(KvCache cache) => cache.CreateSequence();
}
