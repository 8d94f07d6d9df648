using System.Globalization;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

public sealed class DemotionTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;
    private static readonly KvFormats F16 = new(PageFormat.F16, PageFormat.F16);
    private static readonly KvFormats I8 = new(PageFormat.I8, PageFormat.I8);
    private static readonly KvFormats T4 = new(PageFormat.T4, PageFormat.V4);
    private static readonly KvFormats T3 = new(PageFormat.T3, PageFormat.V3);
    private static readonly KvFormats T2 = new(PageFormat.T2, PageFormat.V2);

    [Fact]
    public void The_ladder_goes_down_and_each_part_is_encoded_twice_at_most()
    {
        using KvCache cache = Cache(F16, I8, T4, T3, T2, new(PageFormat.T4, PageFormat.I8));
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 40);
        Assert.True(sequence.Demote(0, 0, 0, I8));
        Assert.True(sequence.Demote(0, 0, 0, new(PageFormat.T4, PageFormat.I8)));
        Refused(() => sequence.Demote(0, 0, 0, T3), "the keys were encoded twice");
        Refused(() => sequence.Demote(0, 0, 0, I8), "nor do they go back");
        Assert.True(sequence.Demote(0, 0, 0, T4), "the values were not, and the keys are copied");
        Refused(() => sequence.Demote(0, 0, 0, T2), "now they were");
        Assert.True(sequence.Demote(0, 1, 0, T4));
        Refused(() => sequence.Demote(0, 1, 0, T4), "it is there");
        Refused(() => sequence.Demote(0, 1, 0, I8), "up");
        Assert.True(sequence.Demote(0, 1, 0, T2));
        Refused(() => sequence.Demote(0, 0, 9, I8), "open");
        Refused(() => sequence.Demote(0, 0, 10, I8), "no such page");
        Refused(() => sequence.Demote(2, 0, 0, I8), "no such layer");
        Refused(() => sequence.Demote(0, 0, 1, F16), "no demotion format");
    }

    [Fact]
    public void A_page_cut_and_grown_over_again_has_been_encoded_before()
    {
        using KvCache cache = Cache(I8, T4, T2);
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 24);
        Assert.True(sequence.Demote(1, 0, 0, T4));
        Refused(() => sequence.Demote(1, 0, 0, T2), "sealed in i8, then t4");
        Assert.Equal(new KvTruncation(6, 4), sequence.Truncate(6));
        sequence.FeedMany(50, 12);
        Refused(() => sequence.Demote(1, 0, 1, T4), "sealed in i8, twice");
        Assert.True(sequence.Demote(1, 0, 2, T4));
    }

    [Fact]
    public void A_new_page_is_written_and_others_keep_what_they_share()
    {
        using KvCache cache = Cache(F16, T4);
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 24);
        using KvSequence fork = sequence.Fork();
        (float[] keys, float[] values) = fork.Materialized(0);
        (int slot, long bytes) = (sequence.State.Table.Slot(0, 2), cache.AllocatedBytes);
        Assert.True(sequence.Demote(0, 0, 2, T4));
        Assert.Equal(slot, fork.State.Table.Slot(0, 2));
        Assert.NotEqual(slot, sequence.State.Table.Slot(0, 2));
        Assert.Equal(bytes + cache.State.Tier.Shape.Classes[2].Bytes, cache.AllocatedBytes);
        Assert.Equal(keys, fork.Materialized(0).Keys);
        Assert.Equal(values, fork.Materialized(0).Values);
        Assert.NotEqual(keys, sequence.Materialized(0).Keys);
        Assert.Contains(cache.GetPageCounts().ByFormats, f => f.Formats == T4 && f is { Open: 0, Sealed: 1 });

        // What no one shares is given back.
        fork.Dispose();
        bytes = cache.AllocatedBytes;
        Assert.True(sequence.Demote(0, 0, 3, T4));
        Assert.Equal(bytes + cache.State.Tier.Shape.Classes[2].Bytes - cache.State.Tier.Shape.Classes[1].Bytes, cache.AllocatedBytes);
        sequence.Truncate(10);
        sequence.FeedMany(70, 9);
        Assert.Equal(19, sequence.Length);
    }

    [Fact]
    public void What_can_be_reused_stays_as_it_was_sealed()
    {
        KvCacheOptions config = TestCaches.Config(F16);
        (config.DemotionFormats, config.PrefixReuse) = ([T4], true);
        using KvCache cache = TestCaches.Reference(G, config);
        int[] prompt = [.. Enumerable.Range(1, 24)];
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 24);
        for (int page = 0; page < 5; page++)
        {
            Assert.True(sequence.Demote(1, 1, page, T4));
        }

        using KvSequence hit = cache.CreateSequence();
        Assert.Equal(20, hit.Reuse(prompt));
        Assert.Equal(TokenContent.Keys(G, 1, prompt.AsSpan(0, 20)), hit.Materialized(1).Keys);

        // The sequence no longer lists any block in full: it holds none, and all can be given up while it lives.
        hit.Dispose();
        Assert.True(cache.CachedBytes > 0);
        Assert.True(cache.TryClearPrefixes());
        Assert.Equal((0, 24), (cache.CachedBytes, sequence.Length));
    }

    [Fact]
    public void Pages_are_demoted_many_at_a_time_as_far_as_there_is_room()
    {
        KvCacheOptions config = TestCaches.Config(F16);
        config.DemotionFormats = [I8, T2];
        using KvCache cache = TestCaches.Reference(G, config);
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 202);
        PageChange[] all = [.. from page in Enumerable.Range(0, 49) from row in Enumerable.Range(0, 4) select new PageChange(row, page, cache.State.Classes.TargetOf(T2))];
        var outcomes = new PageOutcome[all.Length];
        Assert.Equal(all.Length, new Demoter(cache.State).Demote(sequence.State, all, outcomes));
        Assert.DoesNotContain(PageOutcome.Kept, outcomes);
        Assert.Contains(cache.GetPageCounts().ByFormats, f => f.Formats == T2 && f.Sealed == all.Length);
        sequence.Decode(500);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(9)]
    [InlineData(14)]
    [InlineData(20)]
    public void However_full_a_cache_is_one_page_can_make_room(int more)
    {
        var wide = new KvGeometry(layers: 2, queryHeads: 2, kvHeads: 2, keyWidth: 64, pageTokens: 4);
        KvCacheOptions config = TestCaches.Config(I8);
        config.DemotionFormats = [T4, T2];
        config.MemoryBudgetBytes = 1;
        string expected = Assert.Throws<KvConfigurationException>(() => TestCaches.Reference(wide, config)).Expected;
        config.MemoryBudgetBytes = long.Parse(expected.Split(' ')[2], CultureInfo.InvariantCulture) + (more * 5000);
        using KvCache cache = TestCaches.Reference(wide, config);
        using KvSequence sequence = cache.CreateSequence();
        SlotCounts both = SlotCounts.Of(cache.State.Classes.TargetOf(T4), 1) + SlotCounts.Of(cache.State.Classes.TargetOf(T2), 1);
        for (int id = 1; sequence.CanAppend(1); id++)
        {
            sequence.Feed(id);
            Assert.True(cache.State.Pool.Holds(both), "a page of each can be written, however many steps were let through");
        }

        for (int page = 0; page < sequence.State.Table.FirstOpen; page++)
        {
            Assert.True(sequence.Demote(0, page % 2, page, page == 0 ? T4 : T2));
            Assert.InRange(cache.AllocatedBytes, 1, cache.BudgetBytes);
        }
    }

    [Fact]
    public void The_formats_that_cannot_hold_a_page_leave_it_as_it_is()
    {
        using KvCache cache = Cache(F16, T4);
        using KvSequence sequence = cache.CreateSequence();
        float[] large = [.. Enumerable.Repeat(65504f, 4 * 16)];
        using (KvStep step = sequence.Begin([1, 2, 3, 4]))
        {
            step.Append(0, large, large);
            step.Append(1, large, large);
            step.Commit();
        }

        sequence.FeedMany(5, 8);
        (int slot, long bytes) = (sequence.State.Table.Slot(0, 0), cache.AllocatedBytes);
        Assert.False(sequence.Demote(0, 0, 0, T4));
        Assert.Equal((slot, bytes, 1), (sequence.State.Table.Slot(0, 0), cache.AllocatedBytes, sequence.State.Table.PageClass(0, 0)));
    }

    [Fact]
    public void Attention_over_demoted_pages_is_that_over_what_they_decode_to()
    {
        KvCacheOptions config = TestCaches.Config(F16);
        config.DemotionFormats = [I8, T4, T2];
        using KvCache simd = TestCaches.Simd(G, config);
        using KvCache reference = TestCaches.Reference(G, config);
        using KvSequence a = simd.CreateSequence();
        using KvSequence b = reference.CreateSequence();
        foreach (KvSequence sequence in (KvSequence[])[a, b])
        {
            sequence.FeedMany(1, 61);
            for (int page = 0; page < 12; page++)
            {
                Assert.True(sequence.Demote(page % 2, page / 2 % 2, page, config.DemotionFormats[page % 3]));
            }
        }

        for (int id = 100; id < 108; id++)
        {
            (float[] expected, float[] actual) = (b.Decode(id), a.Decode(id));
            Assert.All(expected.Zip(actual), x => Assert.Equal(x.First, x.Second, 1e-4f));
        }
    }

    private static KvCache Cache(KvFormats formats, params KvFormats[] demotions)
    {
        KvCacheOptions config = TestCaches.Config(formats);
        config.DemotionFormats = demotions;
        return TestCaches.Reference(G, config);
    }

    private static void Refused(Func<bool> demote, string why) => Assert.True(Record.Exception(() => demote()) is ArgumentException, why);

    [Fact]
    public void A_demotion_without_room_says_what_is_free_and_what_it_needs()
    {
        KvCacheOptions config = TestCaches.Config(F16);
        config.DemotionFormats = [I8];
        using KvCache cache = TestCaches.Reference(G, config);
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 40);
        int target = cache.State.Classes.TargetOf(I8);
        var taken = new List<int>();
        using (cache.State.Pool.Gate.Enter())
        {
            Span<int> slot = [0];
            foreach (int pageClass in new[] { KernelShape.Open, target })
            {
                while (cache.State.Room.TryTake(SlotCounts.Of(pageClass, 1), slot))
                {
                    taken.Add(slot[0]);
                }
            }
        }

        KvOutOfMemoryException refused = Assert.Throws<KvOutOfMemoryException>(() => sequence.Demote(0, 0, 0, I8));
        Assert.True(refused.Free < refused.Needed, refused.Message);
        using (cache.State.Pool.Gate.Enter())
        {
            cache.State.Pool.Release([.. taken]);
        }

        Assert.True(sequence.Demote(0, 0, 0, I8));
    }
}
