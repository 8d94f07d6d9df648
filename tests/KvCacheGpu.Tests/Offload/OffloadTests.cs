using KvCacheGpu.Kernels;
using static KvCacheGpu.Tests.OffloadCaches;

namespace KvCacheGpu.Tests;

/// <summary>Pages that a policy lets go lie in host memory, and attention goes on reading them.</summary>
public sealed class OffloadTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("offload-").FullName;

    // One layer of many: what an attention reads at once is a small part of the whole.
    private static readonly KvGeometry Deep = new(layers: 24, queryHeads: 4, kvHeads: 2, keyWidth: 32, pageTokens: 8) { Rope = new KvRope { Theta = 100 } };

    private static readonly KvFormats F16 = new(PageFormat.F16, PageFormat.F16);
    private static readonly KvFormats T4 = new(PageFormat.T4, PageFormat.V4);

    /// <summary>How many times the arena would have to be larger to hold it: open pages in F16 and the stage weigh more where pages are small.</summary>
    [Theory]
    [InlineData("lru", PageFormat.F16, PageFormat.F16, 8)]
    [InlineData("window", PageFormat.F32, PageFormat.F32, 8)]
    [InlineData("h2o", PageFormat.I8, PageFormat.I8, 6)]
    [InlineData("tova", PageFormat.T4, PageFormat.V4, 5)]
    public void A_sequence_many_times_larger_than_the_arena_is_attended_bit_for_bit(string policy, PageFormat key, PageFormat value, int times)
    {
        const int tokens = 2400;
        KvFormats formats = new(key, value);
        KvCacheOptions options = Offloading(Deep, policy, formats, tokens, stagedPages: 2 * (tokens / Deep.PageTokens));
        options.MemoryBudgetBytes = TightCaches.MinimumOf(options, (g, o) => TestCaches.Simd(g, o), Deep) + 150_000;
        using KvCache cache = TestCaches.Simd(Deep, options);
        using KvCache whole = TestCaches.Simd(Deep, Plain(Deep, formats, tokens));
        Assert.True(whole.ReservedBytes >= times * cache.ReservedBytes, $"{whole.ReservedBytes} bytes hold all, {cache.ReservedBytes} are there");
        using KvSequence sequence = cache.CreateSequence();
        using KvSequence expected = whole.CreateSequence();
        for (int first = 0; first < tokens - 40; first += 16)
        {
            int[] ids = [.. Enumerable.Range(first, 16)];
            Assert.Equal(Step(expected, ids), Step(sequence, ids));
            Assert.InRange(cache.AllocatedBytes, 1, cache.BudgetBytes);
        }

        for (int id = 5000; id < 5020; id++)
        {
            Assert.Equal(Step(expected, [id]), Step(sequence, [id]));
        }

        KvOffloadCounts counts = cache.GetOffloadCounts();
        Assert.True(counts is { LeftOut: 0, Dropped: 0, Fetched: > 0 } && counts.Pages > 1000, $"{counts}");
        Assert.Equal(0, sequence.EvictedTokens);
    }

    [Theory]
    [InlineData("lru", PageFormat.F16, PageFormat.F16)]
    [InlineData("adaptive", PageFormat.F32, PageFormat.F32)]
    public void Forks_share_pages_in_host_memory_and_cuts_give_them_back(string policy, PageFormat key, PageFormat value)
    {
        // What forks share on the device, neither can give.
        KvCacheOptions options = SmallOptions(policy, new KvFormats(key, value));
        (options.MemoryBudgetBytes, options.Watermark) = (options.MemoryBudgetBytes + 120_000, .7);
        using KvCache cache = TestCaches.Simd(Flat, options);
        using KvCache whole = TestCaches.Simd(Flat, Plain(Flat, new KvFormats(key, value), 600));
        KvSequence sequence = cache.CreateSequence();
        KvSequence expected = whole.CreateSequence();
        Feed(sequence, expected, 0, 560);
        long pages = cache.GetOffloadCounts().Pages;
        Assert.True(pages > 100, $"{pages} pages are away");
        using (KvSequence fork = sequence.Fork())
        using (KvSequence expectedFork = expected.Fork())
        {
            Assert.InRange(cache.GetOffloadCounts().Pages, pages, pages + 30);
            Assert.Equal(Step(expectedFork, [900, 901, 902]), Step(fork, [900, 901, 902]));
        }

        // What the fork had is still the sequence's.
        Assert.InRange(cache.GetOffloadCounts().Pages, pages, pages + 60);
        Assert.Equal(Step(expected, [800]), Step(sequence, [800]));

        // In the middle of a page that is away: the page goes, as one that was dropped.
        KvTruncation cut = sequence.Truncate(100);
        Assert.Equal(96, cut.Length);
        expected.Truncate(96);
        Assert.True(cache.GetOffloadCounts().Pages <= 6 * 12);
        Assert.Equal(0, sequence.EvictedTokens);
        Feed(sequence, expected, 5000, 300);
        Assert.Equal(0, cache.GetOffloadCounts().LeftOut);
        sequence.Dispose();
        expected.Dispose();
        Assert.Equal((0, 0), (cache.GetOffloadCounts().Pages, cache.GetOffloadCounts().Bytes));
    }

    /// <summary>Eight places for hundreds of pages: decoding, chunks over borders of pages, two sequences at once, on both tiers.</summary>
    [Theory]
    [InlineData("cpu", PageFormat.F16, PageFormat.F16)]
    [InlineData("cpu", PageFormat.T4, PageFormat.V4)]
    [InlineData("ilgpu-cpu", PageFormat.I8, PageFormat.I8)]
    public void What_finds_no_place_at_once_is_read_in_rounds(string device, PageFormat key, PageFormat value)
    {
        int tokens = device == "cpu" ? 400 : 250;
        KvCacheOptions options = Offloading(Flat, "lru", new KvFormats(key, value), 600, stagedPages: 8);
        options.Device = device;
        options.MemoryBudgetBytes = TightCaches.MinimumOf(options, (g, o) => new KvCache(g, o), Flat) + 60_000;
        using KvCache cache = new(Flat, options);
        using KvCache whole = TestCaches.Simd(Flat, Plain(Flat, new KvFormats(key, value), 600));
        using KvSequence sequence = cache.CreateSequence();
        using KvSequence expected = whole.CreateSequence();
        int id = 0;
        for (int step = 0; sequence.Length < tokens; step++)
        {
            int[] ids = [.. Enumerable.Range(id, 1 + (step * 5 % 13))];
            int window = step % 4 == 3 ? 120 : 0;
            AreClose(Step(expected, ids, window), Step(sequence, ids, window));
            id += ids.Length;
        }

        KvOffloadCounts counts = cache.GetOffloadCounts();
        Assert.True(counts is { LeftOut: 0, Dropped: 0 } && counts.Pages > 3 * 8, $"{counts}");
        float[] queries = TokenContent.Queries(Flat, 1, [77]);
        float[] own = new float[Flat.QueryHeads * Flat.ValueWidth];
        (float[] theirs, float[] sums, float[] theirSums) = (new float[own.Length], new float[Flat.QueryHeads], new float[Flat.QueryHeads]);
        sequence.Attend(1, queries, KvOutput.FromHost(own, sums));
        expected.Attend(1, queries, KvOutput.FromHost(theirs, theirSums));
        AreClose(theirs, own);
        AreClose(theirSums, sums);
        Half[] halves = new Half[own.Length];
        sequence.Attend(1, queries, KvOutput.FromHost(halves.AsSpan()));
        Assert.Equal(own.Select(x => (Half)x), halves);

        // A short sequence beside the long one: each keeps its own.
        using KvSequence other = cache.CreateSequence();
        using KvSequence expectedOther = whole.CreateSequence();
        AreClose(Step(expectedOther, [1000, 1001, 1002]), Step(other, [1000, 1001, 1002]));
        AreClose(Together(expected, expectedOther, [2000], [3000, 3001]), Together(sequence, other, [2000], [3000, 3001]));
    }

    [Fact]
    public void Through_a_window_only_pages_that_are_seen_are_fetched()
    {
        using KvCache cache = Small("lru", F16);
        using KvCache whole = TestCaches.Simd(Flat, Plain(Flat, F16, 600));
        using KvSequence sequence = cache.CreateSequence();
        using KvSequence expected = whole.CreateSequence();
        Feed(sequence, expected, 0, 400);
        KvOffloadCounts before = cache.GetOffloadCounts();
        Assert.Equal(Step(expected, [900], window: 200), Step(sequence, [900], window: 200));
        Assert.Equal(Step(expected, [901, 902], window: 100), Step(sequence, [901, 902], window: 100));
        KvOffloadCounts after = cache.GetOffloadCounts();
        long read = after.Fetched + after.Staged - before.Fetched - before.Staged;
        Assert.True(read > 0 && read <= Flat.Layers * Flat.KvHeads * ((200 + 100) / 8), $"{read}");
    }

    [Fact]
    public void Queries_outside_of_steps_read_them_too()
    {
        using KvCache cache = Small("lru", T4);
        using KvCache whole = TestCaches.Simd(Flat, Plain(Flat, T4, 600));
        using KvSequence sequence = cache.CreateSequence();
        using KvSequence expected = whole.CreateSequence();
        using KvSequence other = cache.CreateSequence();
        using KvSequence expectedOther = whole.CreateSequence();
        Feed(sequence, expected, 0, 300);
        Feed(other, expectedOther, 1000, 100);
        float[] own = new float[Flat.QueryHeads * Flat.ValueWidth];
        float[] theirs = new float[own.Length];
        for (int layer = 0; layer < Flat.Layers; layer++)
        {
            float[] queries = TokenContent.Queries(Flat, layer, [77]);
            sequence.Attend(layer, queries, own);
            expected.Attend(layer, queries, theirs);
            Assert.Equal(theirs, own);
        }
    }

    [Fact]
    public void What_host_memory_does_not_hold_is_dropped_and_counted()
    {
        KvCacheOptions options = SmallOptions("lru", F16);
        options.Offload = options.Offload! with { BudgetBytes = 50_000 };
        using KvCache cache = TestCaches.Simd(Flat, options);
        using KvSequence sequence = cache.CreateSequence();
        for (int first = 0; first < 400; first += 8)
        {
            Step(sequence, [.. Enumerable.Range(first, 8)]);
        }

        KvOffloadCounts counts = cache.GetOffloadCounts();
        Assert.True(counts is { Dropped: > 0, Pages: > 10, Bytes: <= 50_000 }, $"{counts}");
        Assert.Equal(counts.Dropped * 8 / 6.0, sequence.EvictedTokens, 6);
    }

    [Theory]
    [InlineData(PageFormat.F16, PageFormat.F16)]
    [InlineData(PageFormat.T4, PageFormat.V4)]
    public async Task Sequences_are_swapped_and_saved_with_their_pages_in_host_memory(PageFormat key, PageFormat value)
    {
        using KvCache cache = Small("lru", new KvFormats(key, value));
        using KvCache whole = TestCaches.Simd(Flat, Plain(Flat, new KvFormats(key, value), 600));
        KvSequence sequence = cache.CreateSequence();
        using KvSequence expected = whole.CreateSequence();
        Feed(sequence, expected, 0, 400);
        long away = cache.GetOffloadCounts().Pages;
        KvSequence fork = sequence.Fork();
        using KvSwapped swapped = await cache.SwapOutAsync([sequence, fork]);
        Assert.Equal(0, cache.GetOffloadCounts().Pages);
        IReadOnlyList<KvSequence> back = await cache.SwapInAsync(swapped);
        Assert.Equal(0, cache.GetOffloadCounts().Dropped);
        back[1].Dispose();
        Assert.Equal(Step(expected, [900, 901]), Step(back[0], [900, 901]));
        Assert.Equal(0, back[0].EvictedTokens);

        var store = new SnapshotStore(_folder);
        back[0].Name = "a";
        await cache.SaveAsync(store, "s");
        back[0].Dispose();
        KvRestored restored = await cache.LoadAsync(store, "s");
        Assert.True(restored.IsExact, string.Join("; ", restored.Notes));
        using KvSequence again = Assert.Single(restored.Sequences);
        Assert.True(cache.GetOffloadCounts().Pages >= away / 2);
        Assert.Equal(Step(expected, [902]), Step(again, [902]));

        // A cache that holds all of it takes all of it.
        using KvCache roomy = TestCaches.Simd(Flat, Plain(Flat, new KvFormats(key, value), 600));
        using KvSequence moved = Assert.Single((await roomy.LoadAsync(store, "s")).Sequences);
        Assert.Equal(402, moved.Length);
        Step(moved, [902]);
        Assert.Equal(Step(again, [903]), Step(moved, [903]));
    }

    [Fact]
    public async Task Where_host_memory_is_too_small_to_swap_in_the_sequence_stays_out()
    {
        KvCacheOptions options = SmallOptions("lru", F16);
        using KvCache cache = TestCaches.Simd(Flat, options);
        KvSequence sequence = cache.CreateSequence();
        using KvSequence other = cache.CreateSequence();
        for (int first = 0; first < 400; first += 8)
        {
            Step(sequence, [.. Enumerable.Range(first, 8)]);
        }

        using KvSwapped swapped = await cache.SwapOutAsync([sequence]);
        options.Offload = options.Offload! with { BudgetBytes = 10_000 };
        using KvCache poor = TestCaches.Simd(Flat, options);
        Assert.Equal(0, cache.GetOffloadCounts().Pages);
        await Assert.ThrowsAnyAsync<Exception>(() => poor.SwapInAsync(swapped));
        Assert.Equal(0, poor.GetOffloadCounts().Pages);
        using KvSequence back = Assert.Single(await cache.SwapInAsync(swapped));
        Assert.Equal(400, back.Length);
    }

    /// <summary>The device writes pages to host memory behind its other work: a plan waits for it once, not for each page.</summary>
    [Fact]
    public void Pages_in_host_memory_are_there_when_the_step_that_let_them_go_has_ended()
    {
        KvCacheOptions options = SmallOptions("lru", F16);
        LateTransfers? late = null;
        int waits = 0;
        using var cache = new KvCache(Flat, options, (shape, bytes, seen) =>
        {
            var inner = new SimdTier(shape, bytes, SimdLevel.Auto, 1, seen);
            late = new LateTransfers(inner);
            return new HookedTier(inner, Wait) { Replaced = late };
        });

        void Wait(string operation)
        {
            if (operation == "synchronize" && late!.Waiting > 0)
            {
                late.Arrive();
                waits++;
            }
        }

        using KvCache whole = TestCaches.Simd(Flat, Plain(Flat, F16, 600));
        using KvSequence sequence = cache.CreateSequence();
        using KvSequence expected = whole.CreateSequence();
        Feed(sequence, expected, 0, 480);
        Assert.Equal(0, late!.Waiting);
        Assert.True(waits > 0 && cache.GetOffloadCounts().Offloaded > 2 * waits, $"{waits} {cache.GetOffloadCounts()}");
    }

    [Fact]
    public async Task Sequences_on_several_threads_share_the_stage()
    {
        KvCacheOptions options = SmallOptions("lru", F16);
        (options.MaxSequences, options.MemoryBudgetBytes) = (4, options.MemoryBudgetBytes + 400_000);
        using KvCache cache = TestCaches.Simd(Flat, options);
        KvSequence[] sequences = [.. Enumerable.Range(0, 3).Select(_ => cache.CreateSequence())];

        // None gets far ahead: the pages of a sequence that is in a step make no room for another's.
        using var together = new Barrier(3);
        await Task.WhenAll(Enumerable.Range(0, 3).Select(number => Task.Run(() =>
        {
            using KvCache whole = TestCaches.Simd(Flat, Plain(Flat, F16, 600));
            using KvSequence expected = whole.CreateSequence();
            for (int first = 0; first < 480; first += 40)
            {
                Assert.True(together.SignalAndWait(TimeSpan.FromMinutes(2)));
                Feed(sequences[number], expected, (10_000 * number) + first, 40);
            }
        })));
        Array.ForEach(sequences, sequence => sequence.Dispose());
        KvOffloadCounts counts = cache.GetOffloadCounts();
        Assert.True(counts is { Pages: 0, Fetched: > 0, LeftOut: 0, Dropped: 0 }, $"{counts}");
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);
}
