namespace KvCacheGpu.Tests;

/// <summary>Each sequence counts what it lists, for its tenant alone, and a tenant never comes to more than its quota.</summary>
public sealed class TenantQuotaTests : IDisposable
{
    private static readonly KvGeometry G = TestCaches.Tiny;
    private static readonly KvSequenceOptions Acme = new() { Tenant = "acme" };
    private static readonly KvSequenceOptions Zeta = new() { Tenant = "zeta" };

    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-quota-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void A_sequence_counts_all_that_it_lists_whoever_else_lists_it()
    {
        KvCacheOptions options = TestCaches.Config(maxSequences: 4);
        options.PrefixReuse = true;
        using KvCache cache = TestCaches.Reference(G, options);
        KvSequence first = cache.CreateSequence(Acme);
        first.FeedMany(1, 33);
        long bytes = first.AllocatedBytes;
        Assert.Equal(new KvTenantUsage("acme", bytes, 33, 1, KvTenantQuota.None), cache.GetTenantUsage("acme"));

        KvSequence fork = first.Fork();
        Assert.Equal((2 * bytes, 66L, 2), Parts(cache.GetTenantUsage("acme")));
        first.Dispose();
        Assert.Equal((bytes, 33L, 1), Parts(cache.GetTenantUsage("acme")));

        KvSequence again = cache.CreateSequence(Acme);
        int known = again.Reuse([.. Enumerable.Range(1, 33)]);
        Assert.True(known > 0);
        Assert.Equal((bytes + again.AllocatedBytes, 33L + known, 2), Parts(cache.GetTenantUsage("acme")));

        using KvSequence other = cache.CreateSequence(Zeta);
        using KvSequence nobodys = cache.CreateSequence();
        other.FeedMany(1, 5);
        Assert.Equal([null, "acme", "zeta"], cache.GetTenantUsages().Select(usage => usage.Tenant).Order());
        fork.Dispose();
        again.Dispose();
        Assert.True(cache.CachedBytes > 0);
        Assert.Equal((0L, 0L, 0), Parts(cache.GetTenantUsage("acme")));
        Assert.Equal((other.AllocatedBytes, 5L, 1), Parts(cache.GetTenantUsage("zeta")));
        Assert.Equal((0L, 0L, 0), Parts(cache.GetTenantUsage("never seen")));
    }

    [Fact]
    public void Tokens_bind_to_the_last_one()
    {
        KvCacheOptions options = TestCaches.Config();
        options.TenantQuotas = new Dictionary<string, KvTenantQuota> { ["acme"] = new() { Tokens = 40 } };
        using KvCache cache = TestCaches.Reference(G, options);
        using KvSequence a = cache.CreateSequence(Acme);
        using KvSequence b = cache.CreateSequence(Acme);
        using KvSequence other = cache.CreateSequence(Zeta);
        a.FeedMany(1, 30);
        Assert.False(b.CanAppend(11));
        Assert.False(b.CanHold(11));
        Assert.False(cache.CanHold(11, "acme"));
        Assert.True(cache.CanHold(11, "zeta"));
        Assert.True(b.CanAppend(10) && b.CanHold(10) && cache.CanHold(10, "acme"));
        KvShortage shortage = Refused(() => b.Begin(new int[11]));
        Assert.Equal((KvResource.TenantTokens, 11L, 10L, "acme", b.Id), (shortage.Resource, shortage.Needed, shortage.Free, shortage.Tenant, shortage.Sequence));
        Assert.Equal((KvResource.TenantTokens, 30L, 10L), Numbers(Refused(() => a.Fork())));
        Assert.Equal((30L, 2), (cache.GetTenantUsage("acme").Tokens, cache.GetTenantUsage("acme").Sequences));
        a.Truncate(29);
        other.FeedMany(1, 100);

        // Of two steps at once the second sees what the first is about to add.
        using (b.Begin(new int[6]))
        {
            Assert.Equal(35L, cache.GetTenantUsage("acme").Tokens);
            Assert.Equal((KvResource.TenantTokens, 6L, 5L), Numbers(Refused(() => a.Begin(new int[6]))));
        }

        Assert.Equal(29L, cache.GetTenantUsage("acme").Tokens);
        b.FeedMany(1, 11);
        Assert.False(b.CanAppend(1));
        cache.SetTenantQuota("acme", KvTenantQuota.None);
        Assert.True(b.CanAppend(20));
        cache.SetTenantQuota(null, new KvTenantQuota { Tokens = 0 });
        using KvSequence nobodys = cache.CreateSequence();
        Assert.Equal((KvResource.TenantTokens, 1L, 0L), Numbers(Refused(() => nobodys.Begin([1]))));
        Assert.Contains("the sequences without a tenant", Assert.Throws<KvOutOfMemoryException>(() => nobodys.Begin([1])).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(PageFormat.F32)]
    [InlineData(PageFormat.I8)]
    public void Bytes_bind_to_the_last_page(PageFormat format)
    {
        using KvCache cache = TestCaches.Reference(G, TestCaches.Config(format));
        using KvSequence a = cache.CreateSequence(Acme);
        using KvSequence b = cache.CreateSequence(Acme);
        a.FeedMany(1, 32);
        b.FeedMany(1, 32);
        cache.SetTenantQuota("acme", new KvTenantQuota { Bytes = a.AllocatedBytes + b.AllocatedBytes });
        KvShortage shortage = Refused(() => b.Begin([1]));
        Assert.Equal((KvResource.TenantBytes, "acme", b.Id, 0L), (shortage.Resource, shortage.Tenant, shortage.Sequence, shortage.Free));
        Assert.False(b.CanHold(1));
        long before = a.AllocatedBytes;
        for (int length = 31; before - a.AllocatedBytes < shortage.Missing; length--)
        {
            Assert.False(b.CanAppend(1));
            a.Truncate(length);
        }

        Assert.True(b.CanAppend(1) && b.CanHold(1));
        b.Feed(1);
        long most = cache.GetTenantUsage("acme").Quota.Bytes!.Value;
        Assert.InRange(cache.GetTenantUsage("acme").Bytes, 1, most);
        Assert.Equal(KvResource.TenantBytes, Refused(() => a.Fork()).Resource);
    }

    [Fact]
    public void What_can_be_held_of_a_quota_is_what_steps_can_append()
    {
        int held = 0, refused = 0;
        for (int round = 0; round < 120; round++)
        {
            var random = new Random(round);
            using KvCache cache = TestCaches.Simd(G, TestCaches.Config(PageFormat.I8, maxTokens: 512, maxBatchTokens: random.Next(2) == 0 ? 7 : 16));
            using KvSequence a = cache.CreateSequence(Acme);
            a.FeedMany(1, random.Next(1, 40), chunk: 7);
            using KvSequence fork = a.Fork();
            fork.Truncate(random.Next(fork.Length + 1));
            cache.SetTenantQuota("acme", new KvTenantQuota { Bytes = cache.GetTenantUsage("acme").Bytes + random.Next(20_000) });
            int tokens = random.Next(1, 120);
            bool canHold = fork.CanHold(tokens);
            bool fits = true;
            for (int left = tokens; fits && left > 0;)
            {
                int count = Math.Min(left, cache.Options.MaxBatchTokens);
                fits = fork.CanAppend(count);
                if (fits)
                {
                    fork.FeedMany(fork.Length, count, count);
                    left -= count;
                }
            }

            Assert.True(canHold == fits, $"round {round}: {canHold}, {fits}");
            Assert.True(cache.GetTenantUsage("acme").Bytes <= cache.GetTenantUsage("acme").Quota.Bytes);
            (held, refused) = canHold ? (held + 1, refused) : (held, refused + 1);
        }

        Assert.True(held > 20 && refused > 20, $"{held}, {refused}");
    }

    [Fact]
    public void Reuse_beyond_the_quota_leaves_the_sequence_empty()
    {
        KvCacheOptions options = TestCaches.Config();
        options.PrefixReuse = true;
        using KvCache cache = TestCaches.Reference(G, options);
        using KvSequence computed = cache.CreateSequence(Acme);
        computed.FeedMany(1, 40);
        using KvSequence next = cache.CreateSequence(Acme);
        int known = next.Reuse([.. Enumerable.Range(1, 40)]);
        next.Truncate(0);
        foreach (KvTenantQuota quota in new[] { new KvTenantQuota { Tokens = 40 + known - 1 }, new KvTenantQuota { Bytes = computed.AllocatedBytes } })
        {
            cache.SetTenantQuota("acme", quota);
            (long bytes, KvPageCounts pages) = (cache.AllocatedBytes, cache.GetPageCounts());
            KvShortage shortage = Refused(() => { next.Reuse([.. Enumerable.Range(1, 40)]); });
            Assert.Equal((next.Id, "acme", "reuse of a prefix"), (shortage.Sequence, shortage.Tenant, shortage.What));
            Assert.Equal((0, bytes, pages), (next.Length, cache.AllocatedBytes, cache.GetPageCounts()));
        }

        cache.SetTenantQuota("acme", new KvTenantQuota { Tokens = 40 + known });
        Assert.Equal(known, next.Reuse([.. Enumerable.Range(1, 40)]));
    }

    [Fact]
    public async Task Loads_and_imports_beyond_the_quota_leave_no_trace()
    {
        var store = new SnapshotStore(_folder);
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config(PageFormat.I8));
        using (KvSequence saved = cache.CreateSequence(Acme))
        {
            saved.FeedMany(1, 40);
            await cache.SaveAsync(store, "one");
        }

        using KvSequence there = cache.CreateSequence(Acme);
        there.FeedMany(1, 10);
        long before = cache.AllocatedBytes;
        cache.SetTenantQuota("acme", new KvTenantQuota { Tokens = 49 });
        KvShortage shortage = (await Assert.ThrowsAsync<KvOutOfMemoryException>(() => cache.LoadAsync(store, "one"))).Shortage;
        Assert.Equal(("a load", KvResource.TenantTokens, 40L, 39L, "acme"), (shortage.What, shortage.Resource, shortage.Needed, shortage.Free, shortage.Tenant));
        ImportedCache found = Found();
        shortage = (await Assert.ThrowsAsync<KvOutOfMemoryException>(() => cache.ImportAsync(found, "test"))).Shortage;
        Assert.Equal(("an import", KvResource.TenantTokens, 40L, 39L, "acme"), (shortage.What, shortage.Resource, shortage.Needed, shortage.Free, shortage.Tenant));
        Assert.Equal((before, 10L, 1), (cache.AllocatedBytes, cache.GetTenantUsage("acme").Tokens, cache.GetTenantUsage("acme").Sequences));

        cache.SetTenantQuota("acme", new KvTenantQuota { Bytes = there.AllocatedBytes });
        shortage = (await Assert.ThrowsAsync<KvOutOfMemoryException>(() => cache.LoadAsync(store, "one"))).Shortage;
        Assert.Equal((KvResource.TenantBytes, 0L), (shortage.Resource, shortage.Free));
        Assert.Equal(before, cache.AllocatedBytes);
        cache.SetTenantQuota("acme", new KvTenantQuota { Bytes = there.AllocatedBytes + shortage.Missing, Tokens = 50 });
        KvSequence loaded = Assert.Single((await cache.LoadAsync(store, "one")).Sequences);
        Assert.Equal(shortage.Needed, loaded.AllocatedBytes);
        Assert.Equal((there.AllocatedBytes + loaded.AllocatedBytes, 50L, 2), Parts(cache.GetTenantUsage("acme")));
        loaded.Dispose();
        cache.SetTenantQuota("acme", new KvTenantQuota { Tokens = 50 });
        Assert.Single((await cache.ImportAsync(found, "test")).Sequences);
    }

    [Fact]
    public void A_policy_makes_room_out_of_the_tenants_own_sequences()
    {
        KvCacheOptions options = TestCaches.Config(PageFormat.I8);
        options.Policy = new LruPolicy { SinkTokens = 4, WindowTokens = 8 };
        using KvCache cache = TestCaches.Simd(G, options);
        using KvSequence idle = cache.CreateSequence(Acme);
        using KvSequence other = cache.CreateSequence(Zeta);
        using KvSequence steps = cache.CreateSequence(Acme);
        other.FeedMany(1, 60);
        idle.FeedMany(1, 60);
        long mine = idle.AllocatedBytes + 2500;
        cache.SetTenantQuota("acme", new KvTenantQuota { Bytes = mine });
        long others = other.AllocatedBytes;
        for (int id = 0; id < 100; id++)
        {
            Assert.True(steps.CanAppend(1));
            steps.Feed(id);
            Assert.InRange(cache.GetTenantUsage("acme").Bytes, 1, mine);
        }

        Assert.True(idle.EvictedTokens + steps.EvictedTokens > 0);
        Assert.Equal((others, 0.0), (other.AllocatedBytes, other.EvictedTokens));
    }

    [Fact]
    public void Quotas_that_are_none_are_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>("Bytes", () => new KvTenantQuota { Bytes = -1 });
        Assert.Throws<ArgumentOutOfRangeException>("Tokens", () => new KvTenantQuota { Tokens = -1 });
    }

    private static ImportedCache Found() => new()
    {
        Layers = G.Layers,
        KvHeads = G.KvHeads,
        KeyWidth = G.KeyWidth,
        ValueWidth = G.ValueWidth,
        Sequences = [new ImportedSequence { Id = "i", Tenant = "acme", Tokens = 40, TokenIds = new int[40], ReadLayer = (_, _, _, keys, values) => { keys.Fill(1); values.Fill(1); } }],
    };

    private static KvShortage Refused(Action call) => Assert.Throws<KvOutOfMemoryException>(call).Shortage;

    private static (KvResource Resource, long Needed, long Free) Numbers(KvShortage shortage) => (shortage.Resource, shortage.Needed, shortage.Free);

    private static (long Bytes, long Tokens, int Sequences) Parts(KvTenantUsage usage) => (usage.Bytes, usage.Tokens, usage.Sequences);
}
