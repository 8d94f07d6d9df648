namespace KvCacheGpu.Tests;

/// <summary>Where pages were demoted or dropped here and there, what is left of them is moved together rather than anything lost.</summary>
public sealed class CompactionTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;
    private static readonly KvFormats T2 = new(PageFormat.T2, PageFormat.V2);

    [Fact]
    public void A_slab_is_emptied_and_its_pages_stay_as_they_are()
    {
        using KvCache cache = TestCaches.Reference(G, Config());
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 200);

        // Half of the pages shrink, any of them, so that slabs are left half empty.
        var random = new Random(1);
        for (int page = 0; page < 46; page++)
        {
            foreach ((int layer, int head) in new[] { (0, 0), (0, 1), (1, 0), (1, 1) })
            {
                Assert.True(random.Next(2) == 0 || sequence.Demote(layer, head, page, T2));
            }
        }

        (float[] keys, float[] values) = sequence.Materialized(0);
        (int free, long bytes) = (cache.State.Pool.FreeSlabs, cache.AllocatedBytes);
        int freed = 0;
        while (Compact(cache, sequence))
        {
            freed++;
            Assert.Equal(free + freed, cache.State.Pool.FreeSlabs);
        }

        Assert.True(freed > 0, "expected half-empty slabs to be emptied");
        Assert.Equal(bytes, cache.AllocatedBytes);
        Assert.Equal(keys, sequence.Materialized(0).Keys);
        Assert.Equal(values, sequence.Materialized(0).Values);
        sequence.FeedMany(300, 8);
    }

    [Fact]
    public void What_a_fork_holds_too_is_not_moved()
    {
        using KvCache cache = TestCaches.Reference(G, Config());
        using KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 120);
        for (int page = 0; page < 26; page += 2)
        {
            Assert.True(sequence.Demote(0, 0, page, T2));
        }

        using KvSequence fork = sequence.Fork();
        int slot = fork.State.Table.Slot(0, 1);
        Assert.False(Compact(cache, sequence));
        Assert.Equal(slot, fork.State.Table.Slot(0, 1));
    }

    private static KvCacheOptions Config()
    {
        KvCacheOptions config = TestCaches.Config(PageFormat.F32);
        config.DemotionFormats = [T2];
        return config;
    }

    private static bool Compact(KvCache cache, KvSequence sequence) =>
        new Compactor(cache.State.Pool, cache.State.Room, cache.State.Writer).Compact(sequence.State.Table);
}
