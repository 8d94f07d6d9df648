using static KvCacheGpu.Tests.BlockIndexFixture;

namespace KvCacheGpu.Tests;

/// <summary>Scenarios 15 to 18: blocks that stay longer.</summary>
public sealed class RetentionScenarioTests
{
    [Fact]
    public void S15_pinned_tokens_are_protected_until_the_last_pin_goes()
    {
        using BlockIndex index = Of(8, 1);
        IndexedTable table = index.Open([1, 2, 3, 4, 5]);
        int[] pinned = [.. table.Blocks[..3]];
        table.Free();
        Assert.Equal((0, 5), (index.ProtectedTokens(), index.EvictableTokens()));
        index.Pin(pinned);
        index.Pin(pinned);
        Assert.Equal((3, 2), (index.ProtectedTokens(), index.EvictableTokens()));
        Assert.False(index.TryAllocate([], new int[6]));
        Assert.Throws<InvalidOperationException>(() => index.Release(pinned));
        index.Unpin(pinned);
        Assert.Equal((3, 2), (index.ProtectedTokens(), index.EvictableTokens()));
        index.Unpin(pinned);
        Assert.Equal((0, 5), (index.ProtectedTokens(), index.EvictableTokens()));
        string before = index.State();
        Assert.Throws<InvalidOperationException>(() => index.Unpin(pinned));
        Assert.Throws<InvalidOperationException>(() => index.Release([pinned[0]]));
        Assert.Equal(before, index.State());
    }

    [Fact]
    public void S16_the_lower_priority_goes_first_and_below_35_nothing_is_offloaded()
    {
        using BlockIndex index = Of(4, 4);
        (int a, int b) = Two(index, 80, 5);
        Assert.Equal((true, false), (index.IsWorthOffloading(a), index.IsWorthOffloading(b)));
        Assert.Equal(b, index.Evict());
        Assert.Equal(a, index.Evict());
        IndexedTable plain = index.Open(Range(900, 4));
        Assert.True(index.IsWorthOffloading(plain.Blocks[0]));
        index.SetRetention(plain.Blocks[0], 34);
        Assert.False(index.IsWorthOffloading(plain.Blocks[0]));
    }

    [Theory]
    [InlineData(5, false)]
    [InlineData(7, false)]
    [InlineData(9, true)]
    public void S17_a_priority_decays_to_35(int at, bool victimIsA)
    {
        var clock = new Clock { Milliseconds = 5 };
        using BlockIndex index = Of(4, 4, time: clock);
        (int a, int b) = Two(index, 80, 50, 3, 8);
        clock.Milliseconds = at;
        Assert.Equal(victimIsA ? 35 : 80, index.PriorityOf(a));
        Assert.Equal(50, index.PriorityOf(b));
        Assert.Equal(victimIsA ? a : b, index.Evict());
    }

    [Fact]
    public void S17_a_revived_block_keeps_its_priority_and_its_time_starts_anew()
    {
        var clock = new Clock();
        using BlockIndex index = Of(4, 4, time: clock);
        (int a, _) = Two(index, 80, 5, 10, 0);
        clock.Milliseconds = 8;
        for (int i = 0; i < 100; i++)
        {
            index.Hold(a);
            index.Release([a]);
        }

        clock.Milliseconds = 17;
        Assert.Equal(80, index.PriorityOf(a));
        clock.Milliseconds = 18;
        Assert.Equal(35, index.PriorityOf(a));
    }

    [Fact]
    public void S18_a_block_belongs_to_the_range_of_its_first_token()
    {
        Assert.Equal([80, 50, null, null], new RetentionMap([new(0, 64, 80), new(64, 128, 50)]).PrioritiesFor(256, 64));
        Assert.Equal([80, 80, 30, 30], new RetentionMap([new(63, 127, 30), new(0, 63, 80)]).PrioritiesFor(127, 32));
        Assert.Equal([null, 7, 7], new RetentionMap([new(4, null, 7)]).PrioritiesFor(12, 4));
    }

    [Fact]
    public void S18_ranges_that_overlap_or_are_out_of_range_are_refused()
    {
        Refused(new(0, 64, 80), new(63, 128, 50));
        Refused(new(0, null, 80), new(64, 128, 50));
        Refused(new KvRetentionRange(5, 5, 1));
        Refused(new KvRetentionRange(-1, 5, 1));
        Refused(new KvRetentionRange(0, 5, 101));
        Refused(new KvRetentionRange(0, 5, -1));
        Refused(new KvRetentionRange(0, 5, 1, TimeSpan.Zero));
    }

    private static void Refused(params KvRetentionRange[] ranges) =>
        Assert.StartsWith("expected", Assert.Throws<ArgumentException>(() => new RetentionMap(ranges)).Message, StringComparison.Ordinal);

    private static (int A, int B) Two(BlockIndex index, int priorityA, int priorityB, int millisecondsA = 0, int millisecondsB = 0)
    {
        IndexedTable a = index.Open(Range(0, 4));
        IndexedTable b = index.Open(Range(100, 4));
        (int blockA, int blockB) = (a.Blocks[0], b.Blocks[0]);
        index.SetRetention(blockA, priorityA, millisecondsA);
        index.SetRetention(blockB, priorityB, millisecondsB);
        a.Free();
        b.Free();
        return (blockA, blockB);
    }
}
