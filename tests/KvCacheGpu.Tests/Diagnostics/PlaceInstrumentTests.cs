using KvCacheGpu.Tests.Snapshots;

namespace KvCacheGpu.Tests;

/// <summary>Instruments of caches that are not on the host alone, not whole, or not filled by steps.</summary>
public sealed class PlaceInstrumentTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Fact]
    public void On_an_accelerator_bytes_are_the_ledgers_too_and_the_device_is_told()
    {
        KvCacheOptions options = TestCaches.Config(PageFormat.I8);
        (options.Name, options.Device) = ("accelerator", "ilgpu-cpu");
        using var cache = new KvCache(G, options);
        using var meter = new MeterReader("accelerator");
        using KvSequence sequence = cache.CreateSequence();
        sequence.Feed([.. Enumerable.Range(0, 21)]);
        IReadOnlyList<MeterReader.Reading> read = meter.Read();
        MeterReader.Reading[] usage = [.. read.Where(one => one.Instrument == "kvcache.memory.usage" && one.Text.EndsWith("tier=device", StringComparison.Ordinal))];
        Assert.Equal(cache.AllocatedBytes, usage.Sum(one => one.Value));
        Assert.Equal(sequence.AllocatedBytes, usage.Single(one => one.Text.StartsWith("kind=pages", StringComparison.Ordinal)).Value);
        Assert.All(usage, one => Assert.True(one.Value >= 0, one.Text));
        Assert.All(usage, one => Assert.Contains(KeyValuePair.Create("kvcache.device", (object?)"ilgpu-cpu"), one.Tags));
        Assert.Equal(1, read.Count(one => one.Instrument == "kvcache.seal.duration"));
    }

    [Fact]
    public void A_group_tells_evicted_tokens_of_the_whole_model()
    {
        KvCacheOptions options = TestCaches.Config();
        (options.Name, options.Policy, options.MaxSequences) = ("group-evicts", new WindowPolicy(4, 12), 1);
        using KvCacheGroup group = TestGroups.Make("uneven", options);
        using var meter = new MeterReader("group-evicts");
        using KvGroupSequence sequence = group.CreateSequence();
        for (int first = 0; first < 64; first += 4)
        {
            sequence.Feed(first, first + 1, first + 2, first + 3);
        }

        Assert.True(sequence.EvictedTokens > 0);
        Assert.Equal(sequence.EvictedTokens, meter.One("kvcache.tokens.evicted"), 9);
        Assert.Equal(1, meter.One("kvcache.sequences.limit"));
    }

    [Fact]
    public void A_groups_refused_step_is_one_refusal()
    {
        KvCacheOptions options = TestCaches.Config(maxTokens: 24);
        options.Name = "group-refuses";
        using KvCacheGroup group = TestGroups.Make("2 shards", options);
        using var meter = new MeterReader("group-refuses");
        using KvGroupSequence sequence = group.CreateSequence();
        sequence.Feed([.. Enumerable.Range(0, 16)]);
        Assert.False(group.TryBegin([sequence], new int[32], [32], out _, out KvShortage? shortage));
        IReadOnlyDictionary<string, double> refused = meter.Of("kvcache.refusals");
        Assert.Equal(1, refused.Values.Sum());
        Assert.Equal(1, refused[$"resource={Tags.Of(shortage!.Value.Resource)}"]);
    }

    [Fact]
    public void What_a_load_drops_is_evicted()
    {
        using KvCache saving = TestCaches.Simd(G, TestCaches.Config(PageFormat.F32, maxSequences: 3));
        saving.CreateSequence().FeedMany(1, 200);
        SnapshotStore store = LiveCaches.Store();
        saving.Saved(store);
        KvCacheOptions options = TightCaches.Config("lru", new KvFormats(PageFormat.F32, PageFormat.F32), maxSequences: 3);
        options.MemoryBudgetBytes = TightCaches.MinimumOf(options, (g, c) => TestCaches.Simd(g, c)) + 8192;
        options.Name = "load-drops";
        using KvCache cache = TestCaches.Simd(G, options);
        using var meter = new MeterReader("load-drops");
        KvRestored restored = cache.Restored(store);
        Assert.True(restored.EvictedPages > 0);
        Assert.Equal((double)restored.EvictedPages * G.PageTokens / (G.Layers * G.KvHeads), meter.One("kvcache.tokens.evicted"));
        Assert.Equal(restored.Sequences[0].EvictedTokens, meter.One("kvcache.tokens.evicted"));
    }
}
