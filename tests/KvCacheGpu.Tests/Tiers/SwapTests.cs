using static KvCacheGpu.Tests.BlockIndexFixture;

namespace KvCacheGpu.Tests;

/// <summary>Sequences that are taken out of a cache and put back.</summary>
public sealed class SwapTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Theory]
    [InlineData(PageFormat.F32, false)]
    [InlineData(PageFormat.F16, true)]
    [InlineData(PageFormat.I8, true)]
    public async Task What_comes_back_goes_on_bit_for_bit(PageFormat format, bool reuses)
    {
        KvCacheOptions options = TestCaches.Config(format);
        options.PrefixReuse = reuses;
        using KvCache plain = TestCaches.Simd(G, options);
        using KvSequence alone = plain.CreateSequence();
        alone.Generate(Range(1, 30), 20);
        int[] expected = alone.Generate([.. alone.TokenIds, 7], 20);

        using KvCache cache = TestCaches.Simd(G, options);
        KvSequence sequence = cache.CreateSequence();
        sequence.Name = "a";
        sequence.Generate(Range(1, 30), 20);
        sequence.Pin(3, 5);
        long before = cache.AllocatedBytes - cache.CachedBytes;
        using KvSwapped swapped = await cache.SwapOutAsync([sequence]);
        Assert.Equal([50], swapped.Lengths);
        Assert.Equal(cache.GetSwappedBytes(), swapped.Bytes);
        Assert.True(cache.AllocatedBytes - cache.CachedBytes < before - (swapped.Bytes / 2));
        Assert.Throws<ObjectDisposedException>(() => sequence.Length);

        KvSequence back = Assert.Single(await cache.SwapInAsync(swapped));
        Assert.Equal(("a", 0), (back.Name, cache.GetSwappedBytes()));
        Assert.Equal(expected, back.Generate([.. back.TokenIds, 7], 20));
        for (int layer = 0; layer < G.Layers; layer++)
        {
            Assert.Equal(alone.Materialized(layer).Keys, back.Materialized(layer).Keys);
        }

        await Assert.ThrowsAsync<ObjectDisposedException>(() => cache.SwapInAsync(swapped));
    }

    [Fact]
    public async Task Shared_pages_are_copied_once_and_shared_again()
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config(PageFormat.F16));
        KvSequence one = cache.CreateSequence();
        one.Read(Range(1, 30));
        KvSequence fork = one.Fork();
        fork.Read([7, 8]);
        using KvSequence outside = one.Fork();
        float[] expected = outside.Materialized(1).Keys;
        long before = cache.AllocatedBytes;
        KvSwapped swapped = await cache.SwapOutAsync([one, fork]);
        Assert.Equal(expected, outside.Materialized(1).Keys);
        IReadOnlyList<KvSequence> back = await cache.SwapInAsync(swapped);
        Assert.Equal([30, 32], back.Select(sequence => sequence.Length));
        Assert.Equal([null, null], back.Select(sequence => sequence.Name));
        Assert.Equal(expected, back[0].Materialized(1).Keys);
        Assert.Equal(back[0].State.Table.Slot(0, 2), back[1].State.Table.Slot(0, 2));

        // What the fork outside shared with them, they now have a copy of.
        Assert.InRange(cache.AllocatedBytes, before, before + swapped.Bytes);
        foreach (KvSequence sequence in back)
        {
            sequence.Dispose();
        }
    }

    [Fact]
    public async Task Refused_all_is_as_it_was()
    {
        KvCacheOptions options = TestCaches.Config(PageFormat.F16, maxTokens: 64, maxSequences: 2);
        options.SwapBudgetBytes = 1 << 20;
        using KvCache cache = TestCaches.Simd(G, options);
        KvSequence sequence = cache.CreateSequence();
        sequence.Read(Range(1, 40));
        using (sequence.Begin([1]))
        {
            await Assert.ThrowsAsync<KvConcurrencyException>(() => cache.SwapOutAsync([sequence]));
        }

        await Assert.ThrowsAsync<ArgumentException>(() => cache.SwapOutAsync([]));
        await Assert.ThrowsAsync<ArgumentException>(() => cache.SwapOutAsync([sequence, sequence]));
        KvSwapped swapped = await cache.SwapOutAsync([sequence]);
        using (KvSequence other = cache.CreateSequence())
        {
            other.Read(Range(1, 60));
            KvOutOfMemoryException refused = await Assert.ThrowsAsync<KvOutOfMemoryException>(() => cache.SwapInAsync(swapped));
            Assert.Equal("E001", refused.Code);
            other.Read([5]);
        }

        using var cancelled = new CancellationTokenSource();
        cancelled.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cache.SwapInAsync(swapped, cancelled.Token));
        using KvSequence back = (await cache.SwapInAsync(swapped))[0];
        Assert.Equal(40, back.Length);
    }

    [Fact]
    public async Task A_swap_beyond_its_budget_is_refused_in_numbers()
    {
        KvCacheOptions options = TestCaches.Config(PageFormat.F16);
        options.SwapBudgetBytes = 100;
        using KvCache cache = TestCaches.Simd(G, options);
        using KvSequence sequence = cache.CreateSequence();
        sequence.Read(Range(1, 40));
        KvOutOfMemoryException refused = await Assert.ThrowsAsync<KvOutOfMemoryException>(() => cache.SwapOutAsync([sequence]));
        Assert.Equal((KvResource.SwapBytes, 100L, 0L), (refused.Shortage.Resource, refused.Shortage.Free, cache.GetSwappedBytes()));
        sequence.Read([5]);
        Assert.Equal(41, sequence.Length);
    }

    [Fact]
    public async Task Sequences_in_turn_are_answered_as_if_each_were_alone()
    {
        // Twelve sequences in a cache that holds three of them, each swapped out between its turns.
        using KvCache plain = TestCaches.Simd(G, TestCaches.Config(PageFormat.I8));
        KvCacheOptions options = TestCaches.Config(PageFormat.I8, maxTokens: 200, maxSequences: 3);
        using KvCache cache = TestCaches.Simd(G, options);
        var random = new Random(11);
        var waiting = new List<(int First, KvSwapped Swapped, List<int> Text)>();
        for (int i = 0; i < 12; i++)
        {
            KvSequence sequence = cache.CreateSequence();
            int next = sequence.Read(Range(100 * i, 20 + i));
            waiting.Add((i, await cache.SwapOutAsync([sequence]), [next]));
        }

        for (int turn = 0; turn < 60; turn++)
        {
            int at = random.Next(waiting.Count);
            (int first, KvSwapped swapped, List<int> text) = waiting[at];
            KvSequence sequence = (await cache.SwapInAsync(swapped))[0];
            text.Add(sequence.Read([text[^1]]));
            waiting[at] = (first, await cache.SwapOutAsync([sequence]), text);
        }

        foreach ((int first, KvSwapped swapped, List<int> text) in waiting)
        {
            using KvSequence alone = plain.CreateSequence();
            Assert.Equal(alone.Generate(Range(100 * first, 20 + first), text.Count), text);
            swapped.Dispose();
        }

        Assert.Equal((0, 0), (cache.GetSwappedBytes(), cache.GetPageCounts().Open));
    }
}
