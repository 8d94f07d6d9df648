using System.Numerics;
using KvCacheGpu.Kernels;
using KvCacheGpu.TestKit;
using static KvCacheGpu.Tests.BlockIndexFixture;

namespace KvCacheGpu.Tests;

/// <summary>A sequence that begins with what another computed.</summary>
public sealed partial class PrefixReuseTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Theory]
    [InlineData(PageFormat.F32)]
    [InlineData(PageFormat.F16)]
    [InlineData(PageFormat.BF16)]
    public void Generation_with_reuse_is_generation_without_token_for_token(PageFormat format)
    {
        int[] prompt = Range(1, 38);
        using KvCache plain = TestCaches.Simd(G, TestCaches.Config(format));
        using KvSequence alone = plain.CreateSequence();
        int[] expected = alone.Generate(prompt, 40);

        foreach (int tail in (int[])[0, 1, 2, 3, 4, 9])
        {
            using KvCache cache = TestCaches.Simd(G, Sharing(format));
            using KvSequence other = cache.CreateSequence();
            other.Reuse([.. prompt[..^tail], .. Range(500, 12 + tail)]);
            other.Generate([.. prompt[..^tail], .. Range(500, 12 + tail)], 10, chunk: 5 + tail);
            using KvSequence sequence = cache.CreateSequence();
            int hit = sequence.Reuse(prompt);
            Assert.Equal(38 - Math.Max(1, tail), hit);
            Assert.True(sequence.TokenIds.SequenceEqual(prompt.AsSpan(0, hit)));
            Assert.Equal(expected, sequence.Generate(prompt, 40));
            for (int layer = 0; layer < G.Layers; layer++)
            {
                Assert.Equal(alone.Materialized(layer).Keys, sequence.Materialized(layer).Keys);
                Assert.Equal(alone.Materialized(layer).Values, sequence.Materialized(layer).Values);
            }
        }
    }

    [Fact]
    public void Compressed_pages_are_reused_whole_and_as_they_are()
    {
        using KvCache cache = TestCaches.Simd(G, Sharing(PageFormat.I8));
        int[] prompt = Range(1, 30);
        using KvSequence first = cache.CreateSequence();
        first.Read(prompt);
        using KvSequence second = cache.CreateSequence();
        Assert.Equal(24, second.Reuse(prompt));
        Assert.Equal(first.Materialized(1).Keys[..(24 * 16)], second.Materialized(1).Keys);
        Assert.Equal(SlotsOf(first, page: 5), SlotsOf(second, page: 5));
        using KvSequence branch = cache.CreateSequence();
        Assert.Equal(20, branch.Reuse([.. prompt[..22], 900, 901]));
        second.Read(prompt.AsSpan(24));
        Assert.Equal(first.Materialized(1).Keys, second.Materialized(1).Keys);
    }

    [Fact]
    public void A_hit_costs_no_work_over_the_shared_pages()
    {
        CountingTier? tier = null;
        using var cache = new KvCache(G, Sharing(PageFormat.F16), (shape, bytes, seen) => tier = new CountingTier(new ReferenceTier(shape, bytes, seen)));
        int[] prompt = Range(1, 64);
        using KvSequence first = cache.CreateSequence();
        first.Read(prompt);
        Assert.Equal((64L * G.Layers, 64L * G.Layers, 0L), tier!.Work);
        first.FeedMany(100, 8);
        tier.Work = default;

        using KvSequence second = cache.CreateSequence();
        long bytes = cache.AllocatedBytes;
        Assert.Equal(63, second.Reuse(prompt));

        // Its tables alone take memory.
        int leaves = second.State.Table.Leaves;
        bytes += (leaves * cache.State.Tier.Map.LeafBytes) + cache.State.SequenceSize.Bytes(leaves) - cache.State.SequenceSize.Bytes(0);
        Assert.Equal(((0L, 0L, 0L), bytes), (tier.Work, cache.AllocatedBytes));
        second.Read(prompt.AsSpan(63));

        // One token's work, and the copy of the page that it goes on in.
        Assert.Equal((1L * G.Layers, 1L * G.Layers, (long)G.Layers * G.KvHeads), tier.Work);
    }

    [Fact]
    public void Pages_outlive_their_sequence_and_go_in_order_of_use_when_slots_are_needed()
    {
        KvCacheOptions config = Sharing(PageFormat.F32, maxTokens: 64, maxSequences: 2);
        using KvCache cache = TestCaches.Reference(G, config);
        BlockHash root = cache.State.NamespaceOf(KvSequenceOptions.Default, null).ToHash();
        Fill(1000);
        Fill(2000);
        long cached = cache.CachedBytes;
        Assert.Equal((20, 20), (Resident(1000), Resident(2000)));
        for (int i = 0; Resident(2000) == 20; i++)
        {
            Assert.True(i < 20, "nothing was given up");
            Reuse(1000);
            Fill(3000 + (100 * i));
            Assert.InRange(cache.AllocatedBytes, cached, cache.BudgetBytes);
        }

        // Its deepest blocks went first.
        Assert.InRange(Resident(2000), 4, 16);
        Assert.Equal(20, Resident(1000));
        using KvSequence all = cache.CreateSequence();
        all.FeedMany(9000, 64);
        Assert.Equal(64, all.Length);

        void Fill(int first)
        {
            using KvSequence sequence = cache.CreateSequence();
            sequence.FeedMany(first, 24);
        }

        void Reuse(int first)
        {
            using KvSequence sequence = cache.CreateSequence();
            Assert.Equal(20, sequence.Reuse(Range(first, 24)));
        }

        int Resident(int first) => cache.State.Prefixes!.Index.Query(Range(first, 24), root).Tokens;
    }

    [Theory]
    [InlineData(PageFormat.F16)]
    [InlineData(PageFormat.I8)]
    public void Full_of_cached_pages_a_cache_takes_what_an_empty_one_takes(PageFormat format)
    {
        KvCacheOptions config = Sharing(format, maxTokens: 96, maxSequences: 3);
        config.FullPrecision = PageFormat.F32;
        using (KvCache roomy = TestCaches.Reference(G, config))
        {
            config.MemoryBudgetBytes = roomy.BudgetBytes * 8 / 10;
        }

        using KvCache cache = TestCaches.Reference(G, config);
        int most = Longest();
        for (int i = 0; i < 12; i++)
        {
            using KvSequence sequence = cache.CreateSequence();
            sequence.FeedMany(1000 * i, 12 + (i * 3));
        }

        Assert.True(cache.CachedBytes > 0);
        Assert.Equal(most, Longest());

        int Longest()
        {
            using KvSequence sequence = cache.CreateSequence();
            while (sequence.CanAppend(1))
            {
                sequence.Feed(sequence.Length);
            }

            Assert.False(sequence.TryBegin([1], out _));
            return sequence.Length;
        }
    }

    [Fact]
    public void Same_text_under_another_tenant_adapter_or_salt_never_hits()
    {
        using KvCache cache = TestCaches.Reference(G, Sharing(maxSequences: 32));
        KvSequenceOptions[] all =
        [
            new(), new() { Tenant = "" }, new() { Tenant = "a" }, new() { Tenant = "b" }, new() { Adapter = "a" }, new() { Adapter = "" },
            new() { Salt = "a" }, new() { Salt = "" }, new() { Tenant = "a", Salt = "a" }, new() { Adapter = "a", Salt = "a" },
        ];
        foreach (KvSequenceOptions options in all)
        {
            using KvSequence sequence = cache.CreateSequence(options);
            Assert.Equal(0, sequence.Reuse(Range(1, 16)));
            sequence.FeedMany(1, 16);
            using KvSequence fork = sequence.Fork();
            Assert.Equal(options, fork.Options);
        }

        foreach (KvSequenceOptions options in all)
        {
            using KvSequence sequence = cache.CreateSequence(options with { Retention = [] });
            Assert.Equal(12, sequence.Reuse(Range(1, 16)));
        }
    }

    [Fact]
    public void A_sequence_that_is_not_empty_cannot_reuse_and_without_the_setting_nothing_is_kept()
    {
        using KvCache cache = TestCaches.Reference(G, Sharing());
        using KvSequence sequence = cache.CreateSequence();
        Assert.Equal((0, 0), (sequence.Reuse([]), sequence.Reuse([1])));
        sequence.FeedMany(1, 12);
        Assert.Equal(("E010", "12 tokens"), (Code(() => sequence.Reuse(Range(1, 12))), "12 tokens"));
        using KvCache plain = TestCaches.Reference(G, TestCaches.Config());
        plain.CreateSequence().FeedMany(1, 12);
        using KvSequence none = plain.CreateSequence();
        Assert.Equal((0, 0L, true), (none.Reuse(Range(1, 12)), plain.CachedBytes, plain.TryClearPrefixes()));

        static string Code(Action act) => Assert.Throws<KvStepOrderException>(act).Code;
    }

    [Fact]
    public void An_abandoned_or_refused_step_publishes_nothing()
    {
        KvCacheOptions config = Sharing();
        config.PrefixEvents = true;
        using KvCache cache = TestCaches.Reference(G, config);
        using KvSequence sequence = cache.CreateSequence();
        using (KvStep step = sequence.Begin(Range(1, 16)))
        {
            TestCaches.AppendAll(step, G, Range(1, 16));
        }

        using (KvStep step = sequence.Begin(Range(1, 16)))
        {
            float[] keys = TokenContent.Keys(G, 0, Range(1, 16));
            keys[^1] = float.NaN;
            step.Append(0, keys, keys);
            step.Append(1, keys, keys);
            Assert.Throws<KvNonFiniteException>(step.Commit);
        }

        Assert.Empty(cache.TakePrefixEvents());
        sequence.FeedMany(1, 16);
        Assert.Equal(3, Assert.Single(cache.TakePrefixEvents()).Hashes.Length);
        using KvSequence fork = sequence.Fork();
        sequence.FeedMany(17, 8);
        fork.FeedMany(17, 8);
        PrefixEvent[] events = [.. cache.TakePrefixEvents()];

        // The fork seals the shared page again, which has its block, and a page of its own with equal tokens.
        Assert.Equal([2, 1], events.Select(e => e.Hashes.Length));
        Assert.Equal(events[0].Hashes.Span[1], events[1].Hashes.Span[0]);
    }

    [Fact]
    public void Retention_keeps_the_prompt_longer_than_what_came_after()
    {
        using KvCache cache = TestCaches.Reference(G, Sharing());
        using (KvSequence sequence = cache.CreateSequence(new KvSequenceOptions { Retention = [new(8, 16, 80), new(0, 8, 90)] }))
        {
            sequence.FeedMany(1, 32);
        }

        BlockIndex index = cache.State.Prefixes!.Index;
        int[] priorities = [.. index.FreeOrder().Where(block => !index[block].Hash.IsNull).Select(index.PriorityOf)];
        Assert.Equal([35, 35, 35, 80, 80, 90, 90], priorities);
        Assert.Throws<ArgumentException>(() => cache.CreateSequence(new KvSequenceOptions { Retention = [new(0, 9, 1), new(8, 16, 1)] }));
    }

    [Fact]
    public void A_pinned_prefix_stays_whatever_comes()
    {
        long observed = 0;
        KvCacheOptions config = Sharing(maxTokens: 64, maxSequences: 2);
        KvCache cache = TestCaches.Reference(G, config, (kind, bytes) => observed += kind == AllocationKind.Arena ? 0 : bytes);
        Feed(1000, 24);
        long cached = cache.CachedBytes;
        KvPrefixPin pin = cache.PinPrefix(new KvSequenceOptions(), Range(1000, 18));
        KvPrefixPin again = cache.PinPrefix(new KvSequenceOptions(), Range(1000, 24));
        Assert.Equal((16, 20, 0L), (pin.Tokens, again.Tokens, cache.CachedBytes));
        Assert.Equal(0, cache.PinPrefix(new KvSequenceOptions { Salt = "x" }, Range(1000, 24)).Tokens);
        Assert.False(cache.TryClearPrefixes());
        again.Dispose();
        again.Dispose();
        Assert.Equal(cached / 5, cache.CachedBytes);
        for (int i = 0; i < 10; i++)
        {
            Feed(2000 + (100 * i), 24);
        }

        using (KvSequence full = cache.CreateSequence())
        {
            while (full.CanAppend(1))
            {
                full.Feed(1);
            }

            Assert.InRange(full.Length, 24, 60);
        }

        using (KvSequence hit = cache.CreateSequence())
        {
            Assert.Equal(16, hit.Reuse(Range(1000, 24)));
        }

        pin.Dispose();
        Feed(5000, 64);
        KvPrefixPin left = cache.PinPrefix(new KvSequenceOptions(), Range(5000, 64));
        cache.Dispose();
        left.Dispose();
        Assert.Equal(0, observed);

        void Feed(int first, int count)
        {
            using KvSequence sequence = cache.CreateSequence();
            sequence.FeedMany(first, count);
        }
    }

    [Fact]
    public void A_thousand_steps_that_publish_allocate_no_managed_memory()
    {
        using KvCache cache = TestCaches.Simd(G, Sharing(PageFormat.I8, maxTokens: 2048));
        using KvSequence sequence = cache.CreateSequence();
        float[] keys = TokenContent.Keys(G, 0, [1]);

        // Until the runtime has compiled all of it for good.
        Steps(400);
        Assert.Equal(0, Steps(1000));
        Assert.Equal(1396, cache.State.Prefixes!.Index.HashedTokens());

        // Bytes that the steps allocated, apart from room for token ids, which doubles.
        long Steps(int count)
        {
            long allocated = 0;
            for (int i = 0; i < count; i++)
            {
                (long before, int collections) = (GC.GetAllocatedBytesForCurrentThread(), GC.CollectionCount(0));
                bool grows = BitOperations.IsPow2(sequence.Length);
                using KvStep step = sequence.Begin([i]);
                step.Append(0, keys, keys);
                step.Append(1, keys, keys);
                step.Commit();
                long bytes = GC.GetAllocatedBytesForCurrentThread() - before;

                // A collection that another test begins counts the rest of the thread's allocation buffer as allocated.
                allocated += grows || collections != GC.CollectionCount(0) ? 0 : bytes;
            }

            return allocated;
        }
    }

    private static KvCacheOptions Sharing(PageFormat format = PageFormat.F32, int maxTokens = 256, int maxSequences = 4)
    {
        KvCacheOptions config = TestCaches.Config(format, maxTokens, maxSequences);
        config.PrefixReuse = true;
        return config;
    }

    private static int[] SlotsOf(KvSequence sequence, int page)
    {
        PageTable table = sequence.State.Table;
        return [.. Enumerable.Range(0, table.Rows).Select(row => table.Slot(row, table.EntryOf(row, page)))];
    }
}
