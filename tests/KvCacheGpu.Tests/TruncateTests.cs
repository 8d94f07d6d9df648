using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

public sealed class TruncateTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    private static readonly KvGeometry Wide = new(layers: 2, queryHeads: 2, kvHeads: 2, keyWidth: 32, pageTokens: 4);

    public static TheoryData<PageFormat, PageFormat, int> Cuts()
    {
        var data = new TheoryData<PageFormat, PageFormat, int>();
        foreach (KvFormats formats in TestCaches.NaturalPairs)
        {
            for (int length = 1; length <= 14; length++)
            {
                data.Add(formats.Key, formats.Value, length);
            }
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Cuts))]
    public void A_rollback_of_up_to_a_page_is_exact(PageFormat key, PageFormat value, int length)
    {
        KvGeometry geometry = key.Takes(G.KeyWidth) ? G : Wide;
        for (int back = 1; back <= Math.Min(G.PageTokens, length); back++)
        {
            using KvCache cache = TestCaches.Reference(geometry, TestCaches.Config(new KvFormats(key, value)));
            using KvSequence rolled = cache.CreateSequence();
            using KvSequence straight = cache.CreateSequence();
            rolled.FeedMany(1, length);
            Assert.Equal(new KvTruncation(length - back, 0), rolled.Truncate(length - back));
            straight.FeedMany(1, length - back);
            for (int id = 100; id < 112; id++)
            {
                (float[] expected, float[] actual) = (straight.Decode(id), rolled.Decode(id));

                // A sealed page stays sealed, so that until the straight run has sealed it too, they read other formats.
                if (key.IsFullPrecision() || straight.State.Table.FirstOpen == rolled.State.Table.FirstOpen && straight.Length % 4 != 0 && straight.Length > length)
                {
                    Assert.Equal(expected, actual);
                }
            }

            Assert.Equal(straight.Materialized(1).Keys, rolled.Materialized(1).Keys);
        }
    }

    [Fact]
    public void A_deep_cut_copies_the_sealed_page_and_reports_that_it_will_be_encoded_again()
    {
        using KvCache cache = TestCaches.Reference(G, TestCaches.Config(PageFormat.I8));
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 24);
        using KvSequence witness = sequence.Fork();
        float[] before = witness.Materialized(0).Keys;
        Assert.Equal(new KvTruncation(6, 4), sequence.Truncate(6));
        sequence.FeedMany(200, 10);
        Assert.Equal(before, witness.Materialized(0).Keys);
        Assert.Equal(before[..(4 * 16)], sequence.Materialized(0).Keys[..(4 * 16)]);
    }

    [Fact]
    public void A_deep_cut_of_full_precision_pages_is_exact_and_writes_into_no_sealed_page()
    {
        using KvCache cache = TestCaches.Reference(G, TestCaches.Config(PageFormat.F16));
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 24);
        int slot = sequence.State.Table.Slot(0, 1);
        var before = new int[cache.State.Tier.Shape.Classes[1].Bytes / 4];
        cache.State.Tier.Read((long)slot * PageLayout.UnitWords, before);
        Assert.Equal(new KvTruncation(6, 0), sequence.Truncate(6));
        using KvStep step = sequence.Begin([50]);
        TestCaches.AppendAll(step, G, [50]);
        var during = new int[before.Length];
        cache.State.Tier.Read((long)slot * PageLayout.UnitWords, during);
        Assert.Equal(before, during);
        step.Commit();
        Assert.NotEqual(slot, sequence.State.Table.Slot(0, 1));
        Assert.Equal(TokenContent.Keys(G, 0, [1, 2, 3, 4, 5, 6, 50]), sequence.Materialized(0).Keys);
    }

    [Fact]
    public void A_cut_inside_a_dropped_page_ends_at_its_start()
    {
        KvCacheOptions config = TestCaches.Config();
        config.Policy = new WindowPolicy(4, 4);
        using KvCache cache = TestCaches.Reference(G, config);
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 40);
        Assert.Equal(new KvTruncation(12, 0), sequence.Truncate(14));
        Assert.Equal((12, 8.0), (sequence.Length, sequence.EvictedTokens));
        sequence.FeedMany(60, 3);
        Assert.Equal(TokenContent.Keys(G, 0, [1, 2, 3, 4, 60, 61, 62]), sequence.Materialized(0).Keys);
    }

    [Fact]
    public void Positions_after_a_cut_go_on_after_the_largest_that_is_left()
    {
        using KvCache cache = TestCaches.Simd(G, TestCaches.Config());
        KvSequence s = cache.CreateSequence();
        s.FeedMany(1, 6);
        s.PositionRuns = [90, 3, 0, 3];
        s.Truncate(3);
        s.FeedMany(50, 3);
        Assert.Equal([90, 3, 93, 3], s.PositionRuns);
    }
}
