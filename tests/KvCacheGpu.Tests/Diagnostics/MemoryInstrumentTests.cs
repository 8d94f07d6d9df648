using KvCacheGpu.Kernels;
using static KvCacheGpu.Tests.BlockIndexFixture;

namespace KvCacheGpu.Tests;

/// <summary>The instruments of memory and pages: their values are those of the ledger, the tiers and the sequences.</summary>
public sealed class MemoryInstrumentTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Fact]
    public void Bytes_of_the_device_are_the_ledgers_by_kind()
    {
        KvCacheOptions options = TestCaches.Config(PageFormat.F16);
        (options.Name, options.PrefixReuse, options.FullPrecision) = ("bytes", true, PageFormat.F16);
        using KvCache cache = TestCaches.Simd(G, options);
        using var meter = new MeterReader("bytes");
        using (KvSequence gone = cache.CreateSequence())
        {
            gone.Read(Range(1, 30));
        }

        using KvSequence sequence = cache.CreateSequence();
        sequence.Read(Range(100, 21));
        IReadOnlyDictionary<string, double> usage = meter.Of("kvcache.memory.usage");
        Assert.Equal(cache.AllocatedBytes, usage.Where(one => one.Key.EndsWith("tier=device", StringComparison.Ordinal)).Sum(one => one.Value));
        Assert.True(cache.CachedBytes > 0);
        Assert.Equal(cache.CachedBytes, usage["kind=prefix tier=device"]);
        Assert.Equal(sequence.AllocatedBytes, usage["kind=pages tier=device"]);
        TableMap map = cache.State.Tier.Map;
        Assert.Equal(map.Bytes + (map.LeavesFor(G.PagesFor(21)) * map.LeafBytes), usage["kind=tables tier=device"]);
        Assert.True(usage["kind=scratch tier=device"] > 0 && usage["kind=bookkeeping tier=device"] > 0);
        Assert.Equal((0.0, 0.0), (usage["kind=staging tier=device"], usage["kind=swap tier=host"]));
        Assert.Equal(new Dictionary<string, double> { ["tier=device"] = cache.BudgetBytes }, meter.Of("kvcache.memory.limit"));
        Assert.Equal((cache.State.Room.FreeBytes, cache.ReservedBytes), (meter.One("kvcache.memory.free"), meter.One("kvcache.memory.reserved")));
    }

    [Fact]
    public void Scratch_is_what_was_allocated_as_scratch()
    {
        long scratch = 0;
        KvCacheOptions options = TestCaches.Config();
        options.Name = "scratch";
        using KvCache cache = TestCaches.Simd(G, options, (kind, bytes) => scratch += kind == AllocationKind.Scratch ? bytes : 0);
        using var meter = new MeterReader("scratch");
        Assert.Equal(scratch, meter.Of("kvcache.memory.usage")["kind=scratch tier=device"]);
    }

    [Fact]
    public async Task Bytes_below_the_device_are_those_of_host_memory_and_tiers()
    {
        KvCacheOptions options = OffloadCaches.SmallOptions("lru", new KvFormats(PageFormat.F16, PageFormat.F16));
        var tier = new MapTier("memory-tier");
        (options.Name, options.SwapBudgetBytes, options.PrefixReuse, options.ModelFingerprint, options.Tiers) = ("below", 1 << 20, true, "toy", [tier]);
        using KvCache cache = TestCaches.Simd(OffloadCaches.Flat, options);
        using var meter = new MeterReader("below");
        KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(0, 480, chunk: 8);
        await cache.BackUpAsync();
        Assert.True(cache.GetOffloadCounts().Bytes > 0);
        IReadOnlyDictionary<string, double> usage = meter.Of("kvcache.memory.usage");
        Assert.Equal(cache.GetOffloadCounts().Bytes, usage["kind=offload tier=host"]);
        Assert.Equal(cache.State.Offload!.StageBytes, usage["kind=staging tier=device"]);
        Assert.Equal(cache.AllocatedBytes, usage.Where(one => one.Key.EndsWith("tier=device", StringComparison.Ordinal)).Sum(one => one.Value));
        Assert.Equal(
            new Dictionary<string, double> { ["tier=device"] = cache.BudgetBytes, ["kind=offload tier=host"] = 1 << 30, ["kind=swap tier=host"] = 1 << 20 },
            meter.Of("kvcache.memory.limit"));

        // A second cache on the same tier does not double it.
        options.Name = "below-2";
        using KvCache second = TestCaches.Simd(OffloadCaches.Flat, options);
        using var tiers = new MeterReader("memory-tier");
        Assert.True(tier.BytesInUse > 0);
        Assert.Equal(new Dictionary<string, double> { ["kind=blocks tier=memory-tier"] = tier.BytesInUse!.Value }, tiers.Of("kvcache.memory.usage"));

        using KvSwapped swapped = await cache.SwapOutAsync([sequence]);
        Assert.Equal((swapped.Bytes, 0.0), (meter.Of("kvcache.memory.usage")["kind=swap tier=host"], meter.Of("kvcache.memory.usage")["kind=offload tier=host"]));
    }

    [Fact]
    public void Pages_count_once_by_layout_and_state()
    {
        KvCacheOptions options = TestCaches.Config(PageFormat.I8);
        (options.Name, options.PrefixReuse) = ("pages", true);
        using KvCache cache = TestCaches.Simd(G, options);
        using var meter = new MeterReader("pages");

        // 4 rows; 30 tokens are 8 pages of 4, of which those that 4 tokens follow are sealed: 6.
        KvSequence first = cache.CreateSequence();
        first.Feed(Range(1, 30));
        Assert.Equal(new Dictionary<string, double> { ["layout=i8/i8 state=sealed"] = 24, ["layout=f32/f32 state=open"] = 8 }, meter.Of("kvcache.pages"));
        KvSequence fork = first.Fork();
        Assert.Equal(new Dictionary<string, double> { ["layout=i8/i8 state=shared"] = 24, ["layout=f32/f32 state=shared"] = 8 }, meter.Of("kvcache.pages"));
        fork.Dispose();
        using KvSequence second = cache.CreateSequence();
        second.Feed(Range(500, 9));
        first.Dispose();
        Assert.Equal(
            new Dictionary<string, double> { ["layout=i8/i8 state=cached"] = 24, ["layout=i8/i8 state=sealed"] = 4, ["layout=f32/f32 state=open"] = 8 }, meter.Of("kvcache.pages"));
        KvPageCounts counts = cache.GetPageCounts();
        Assert.Equal(counts.Open + counts.Sealed, meter.Of("kvcache.pages").Values.Sum());
    }

    [Fact]
    public void Offloaded_pages_and_their_places_are_told()
    {
        KvCacheOptions options = OffloadCaches.SmallOptions("lru", new KvFormats(PageFormat.F16, PageFormat.F16));
        options.Name = "offloaded-pages";
        using KvCache cache = TestCaches.Simd(OffloadCaches.Flat, options);
        using var meter = new MeterReader("offloaded-pages");
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(0, 480, chunk: 8);
        IReadOnlyDictionary<string, double> pages = meter.Of("kvcache.pages");
        Assert.True(cache.GetOffloadCounts().Pages > 0);
        Assert.Equal((cache.GetOffloadCounts().Pages, 160.0), (pages["layout=f16/f16 state=offloaded"], pages["layout=f16/f16 state=staging"]));
        sequence.Dispose();
        Assert.False(meter.Of("kvcache.pages").ContainsKey("layout=f16/f16 state=offloaded"));
    }

    [Fact]
    public void A_groups_parts_tell_memory_apart_and_sequences_once()
    {
        KvCacheOptions options = TestCaches.Config();
        options.Name = "group";
        using var group = new KvCacheGroup(G, options, KvPart.ByHeads(G, "cpu", "cpu"));
        using var meter = new MeterReader("group");
        using KvGroupSequence sequence = group.CreateSequence();
        using (KvGroupStep step = group.Begin([sequence], [1, 2, 3], [3]))
        {
            foreach (int part in (int[])[0, 1])
            {
                for (int layer = 0; layer < G.Layers; layer++)
                {
                    step.Append(part, layer, new float[3 * 8], new float[3 * 8]);
                }
            }

            step.Commit();
        }

        Assert.Equal((1.0, 1.0, 3.0), (meter.One("kvcache.sequences"), meter.One("kvcache.steps"), meter.One("kvcache.tokens.appended")));
        Assert.Equal(4, meter.Of("kvcache.pages")["layout=f32/f32 state=open"]);
        Assert.Equal(group.AllocatedBytes, meter.Of("kvcache.memory.usage").Where(one => one.Key.EndsWith("tier=device", StringComparison.Ordinal)).Sum(one => one.Value));
    }

    [Fact]
    public void Caches_of_one_name_are_added_up_and_a_disposed_one_tells_nothing()
    {
        KvCacheOptions options = TestCaches.Config();
        options.Name = "twice";
        using KvCache one = TestCaches.Simd(G, options);
        KvCache other = TestCaches.Simd(G, options);
        using var meter = new MeterReader("twice");
        Assert.Equal(one.ReservedBytes + other.ReservedBytes, meter.One("kvcache.memory.reserved"));
        other.Dispose();
        Assert.Equal(one.ReservedBytes, meter.One("kvcache.memory.reserved"));
        one.Dispose();
        Assert.Empty(meter.Read());
    }

    [Fact]
    public void A_cache_that_nobody_disposed_is_not_kept_alive()
    {
        WeakReference lost = Lose();
        for (int i = 0; i < 50 && lost.IsAlive; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        Assert.False(lost.IsAlive);
        using var meter = new MeterReader("lost");
        Assert.Empty(meter.Read());
    }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private static WeakReference Lose()
    {
        KvCacheOptions options = TestCaches.Config();
        options.Name = "lost";
        return new WeakReference(TestCaches.Simd(G, options));
    }
}
