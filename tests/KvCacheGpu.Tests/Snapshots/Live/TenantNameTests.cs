namespace KvCacheGpu.Tests.Snapshots;

/// <summary>A snapshot under a tenant's name holds the tenant's sequences, and gives no others.</summary>
public sealed class TenantNameTests
{
    [Fact]
    public async Task A_sequence_is_not_saved_under_another_tenants_name()
    {
        using KvCache cache = Cache();
        using KvSequence red = Sequence(cache, "red", 10), blue = Sequence(cache, "blue", 20), nobodys = Sequence(cache, null, 30);
        SnapshotStore store = LiveCaches.Store();
        foreach (KvSequence[] wrong in (KvSequence[][])[[blue], [red, blue], [nobodys]])
        {
            ArgumentException refused = await Assert.ThrowsAsync<ArgumentException>(() => cache.SaveAsync(store, new SnapshotName("talk", "red"), wrong));
            Assert.Contains("tenant 'red'", refused.Message, StringComparison.Ordinal);
        }

        await Assert.ThrowsAsync<ArgumentException>(() => cache.SaveAsync(store, new SnapshotName("talk", ""), [nobodys]));
        await Assert.ThrowsAsync<KvSnapshotNotFoundException>(() => cache.LoadAsync(store, new SnapshotName("talk", "red")));
        await cache.SaveAsync(store, new SnapshotName("talk", "red"), [red]);
        await cache.SaveAsync(store, new SnapshotName("talk", "blue"), [blue]);
        KvSequence loaded = Assert.Single((await cache.LoadAsync(store, new SnapshotName("talk", "red"))).Sequences);
        Assert.Equal(("red", 10), (loaded.Options.Tenant, loaded.TokenIds[0]));
    }

    [Fact]
    public async Task All_that_live_are_all_of_the_tenant_and_a_hosts_own_snapshot_takes_anyones()
    {
        using KvCache cache = Cache();
        using KvSequence red = Sequence(cache, "red", 10), blue = Sequence(cache, "blue", 20), nobodys = Sequence(cache, null, 30);
        SnapshotStore store = LiveCaches.Store();
        Assert.Equal(1, (await cache.SaveAsync(store, new SnapshotName("all", "blue"))).Sequences);
        Assert.Equal(3, (await cache.SaveAsync(store, "all")).Sequences);
        using KvCache other = Cache();
        Assert.Equal([20], (await other.LoadAsync(store, new SnapshotName("all", "blue"))).Sequences.Select(sequence => sequence.TokenIds[0]));
        Assert.Equal([10, 20, 30], (await other.LoadAsync(store, "all")).Sequences.Select(sequence => sequence.TokenIds[0]).Order());
    }

    [Fact]
    public async Task A_tenants_snapshot_that_holds_anothers_sequences_is_not_given_out()
    {
        using KvCache cache = Cache();
        using KvSequence blue = Sequence(cache, "blue", 20);
        SnapshotStore store = LiveCaches.Store();
        await cache.SaveAsync(store, "host", [blue]);

        // As an older version let it come to be: whoever writes to the store itself names what he likes.
        using (OpenSnapshot open = await store.OpenAsync("host"))
        {
            await store.SaveAsync(new SnapshotName("talk", "red"), open.Content, open.Read);
        }

        long before = cache.AllocatedBytes;
        KvSnapshotNotFoundException refused = await Assert.ThrowsAsync<KvSnapshotNotFoundException>(() => cache.LoadAsync(store, new SnapshotName("talk", "red")));
        Assert.Contains("sequences of tenant 'red' alone", refused.Message, StringComparison.Ordinal);
        Assert.Equal(before, cache.AllocatedBytes);
        Assert.Single((await cache.LoadAsync(store, "host")).Sequences);
    }

    [Fact]
    public async Task Numbers_that_no_engine_wrote_into_one_piece_are_refused_before_they_are_read()
    {
        using KvCache cache = Cache();
        using KvSequence nobodys = Sequence(cache, null, 30);
        SnapshotStore store = LiveCaches.Store();
        await cache.SaveAsync(store, "host", [nobodys]);
        using OpenSnapshot open = await store.OpenAsync("host");
        SnapshotSequence saved = open.Content.Sequences[0];
        string piece = string.Join(',', Enumerable.Range(0, 7_000));
        Dictionary<string, string> metadata = new(saved.Metadata) { ["kvcache.pins"] = piece };
        Enumerable.Range(1, 900).ToList().ForEach(i => metadata[$"kvcache.pins.{i}"] = piece);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Throws<KvCorruptionException>(() => SequenceStanding.Check(saved with { Metadata = metadata }));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 1, 1 << 20);
    }

    private static KvCache Cache() => TestCaches.Simd(TestCaches.Tiny, new KvCacheOptions { MaxTokens = 256, MaxSequences = 16 });

    private static KvSequence Sequence(KvCache cache, string? tenant, int first)
    {
        KvSequence sequence = cache.CreateSequence(new KvSequenceOptions { Tenant = tenant });
        sequence.Name = "talk";
        sequence.CheckedStep([.. Enumerable.Range(first, 9)]);
        return sequence;
    }
}
