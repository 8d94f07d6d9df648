namespace KvCacheGpu.Tests;

public sealed class ForkTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Theory]
    [InlineData(0, 1, 2)]
    [InlineData(0, 2, 1)]
    [InlineData(1, 0, 2)]
    [InlineData(1, 2, 0)]
    [InlineData(2, 0, 1)]
    [InlineData(2, 1, 0)]
    public void A_fork_of_a_fork_may_be_freed_in_every_order(int first, int second, int third)
    {
        using KvCache cache = TestCaches.Reference(G, TestCaches.Config(PageFormat.I8));
        KvSequence parent = cache.CreateSequence();
        parent.FeedMany(1, 14);
        KvPageCounts shared = cache.GetPageCounts();
        KvSequence child = parent.Fork();
        KvSequence grandchild = child.Fork();
        Assert.Equal(shared, cache.GetPageCounts());
        KvSequence[] family = [parent, child, grandchild];
        for (int i = 0; i < 3; i++)
        {
            family[i].FeedMany(100 * (i + 1), 9);
        }

        float[][] contents = [.. family.Select(s => s.Materialized(1).Values)];
        foreach (int gone in (int[])[first, second, third])
        {
            Assert.Equal(contents[gone], family[gone].Materialized(1).Values);
            family[gone].Dispose();
        }

        Assert.Equal(default, cache.GetPageCounts());
    }

    [Fact]
    public void A_partial_page_is_copied_by_the_one_who_writes_on()
    {
        using KvCache cache = TestCaches.Reference(G, TestCaches.Config());
        using KvSequence parent = cache.CreateSequence();
        parent.FeedMany(1, 6);
        using KvSequence fork = parent.Fork();
        fork.Feed(70);
        parent.Feed(80);
        Assert.Equal(TokenContent.Keys(G, 1, [1, 2, 3, 4, 5, 6, 70]), fork.Materialized(1).Keys);
        Assert.Equal(TokenContent.Keys(G, 1, [1, 2, 3, 4, 5, 6, 80]), parent.Materialized(1).Keys);
        Assert.Equal(12, cache.GetPageCounts().Open);
        Assert.True(fork.TokenIds.SequenceEqual([1, 2, 3, 4, 5, 6, 70]));
    }

    [Fact]
    public void A_page_that_one_fork_sealed_in_place_is_not_written_by_another()
    {
        using KvCache cache = TestCaches.Reference(G, TestCaches.Config());
        KvSequence parent = cache.CreateSequence();
        parent.FeedMany(1, 4);
        using KvSequence fork = parent.Fork();
        parent.FeedMany(10, 4);
        int slot = parent.State.Table.Slot(0, 0);
        parent.Dispose();
        fork.Truncate(2);
        fork.Feed(30);
        Assert.NotEqual(slot, fork.State.Table.Slot(0, 0));
    }
}
