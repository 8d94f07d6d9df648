using static KvCacheGpu.Tests.BlockIndexFixture;

namespace KvCacheGpu.Tests;

/// <summary>Scenarios 1 to 9 of the paging scenarios, with their numbers.</summary>
public sealed class SharingScenarioTests
{
    private static readonly int[] Common = Range(0, 48);

    [Fact]
    public void S01_S02_share_free_revive_then_evict()
    {
        using BlockIndex index = Of(10, 16);
        IndexedTable r0 = index.Open([.. Common, .. Range(1000, 7)]);
        Assert.Equal([1, 2, 3, 4], r0.Blocks);
        Assert.Equal([true, true, true, false], r0.Blocks.Select(block => !index[block].Hash.IsNull));
        IndexedTable r1 = index.Open([.. Common, .. Range(2000, 5)]);
        Assert.Equal((48, 5), (r1.Hit, index.FreeCount()));
        Assert.Equal([1, 2, 3, 5], r1.Blocks);
        Assert.Equal([2, 2, 2], r1.Blocks[..3].Select(block => index[block].References));
        r0.Free();
        r1.Free();
        Assert.Equal([5, 4, 6, 7, 8, 9, 10, 3, 2, 1], index.FreeOrder());

        IndexedTable r2 = index.Open([.. Common, .. Range(3000, 6)]);
        Assert.Equal((48, 6), (r2.Hit, index.FreeCount()));
        Assert.Equal([1, 2, 3, 5], r2.Blocks);
        r2.Free();
        IndexedTable r3 = index.Open(Range(5000, 160));
        Assert.Equal([5, 4, 6, 7, 8, 9, 10, 3, 2, 1], r3.Blocks);
        Assert.Equal(0, index.FreeCount());
    }

    [Fact]
    public void S03_a_block_that_is_taken_anew_loses_its_hash()
    {
        using BlockIndex index = Of(1, 16);
        index.Open(Range(0, 16)).Free();
        Assert.False(index[1].Hash.IsNull);
        IndexedTable table = index.Open(Range(100, 15));
        Assert.Equal([1], table.Blocks);
        Assert.True(index[1].Hash.IsNull);
        Assert.Equal(0, index.Query(Range(0, 16)).Tokens);
    }

    [Fact]
    public void S04_a_hit_is_not_taken_for_what_is_new()
    {
        using BlockIndex index = Of(2, 16);
        index.Open(Range(0, 16)).Free();
        IndexedTable b = index.Open(Range(16, 16));
        Assert.Equal([2], b.Blocks);
        b.Free();
        Assert.Equal([1, 2], index.FreeOrder());
        IndexedTable c = index.Open(Range(0, 32));
        Assert.Equal(16, c.Hit);
        Assert.Equal([1, 2], c.Blocks);
    }

    [Fact]
    public void S05_without_sharing_nothing_is_hit()
    {
        using BlockIndex index = Of(4, 4, sharing: false);
        IndexedTable first = index.Open(Range(0, 10));
        Assert.Equal(3, first.Blocks.Count);
        first.Free();
        IndexedTable second = index.Open(Range(0, 16));
        Assert.Equal((0, 4), (second.Hit, second.Blocks.Count));
        string before = index.State();
        Assert.False(new IndexedTable(index, Root).TryOpen(Range(0, 4)));
        Assert.Equal(before, index.State());
    }

    [Fact]
    public void S06_another_salt_hits_nothing()
    {
        using BlockIndex index = Of(10, 16);
        BlockHash s1 = new PrefixNamespace { Salt = "s1" }.ToHash();
        BlockHash s2 = new PrefixNamespace { Salt = "s2" }.ToHash();
        index.Open([.. Common, .. Range(1000, 11)], s1);
        Assert.Equal(48, index.Query([.. Common, .. Range(2000, 11)], s1).Tokens);
        Assert.Equal(0, index.Query([.. Common, .. Range(2000, 11)], s2).Tokens);
    }

    [Fact]
    public void S07_a_refusal_changes_nothing()
    {
        using BlockIndex index = Of(10, 16);
        index.Open(Common);
        int[] longer = [.. Common, .. Range(1000, 48)];
        IndexedTable r1 = index.Open(longer);
        int[] six = [.. r1.Blocks];
        r1.Free();
        index.Open(Range(5000, 32));
        Assert.Equal(5, index.FreeCount());
        string before = index.State();
        var r3 = new IndexedTable(index, Root);
        Assert.Equal(96, index.Query([.. longer, .. Range(2000, 48)]).Tokens);
        Assert.False(r3.TryOpen([.. longer, .. Range(2000, 48)]));
        Assert.Equal([1, 1, 1, 0, 0, 0], six.Select(block => index[block].References));
        Assert.Equal(before, index.State());
    }

    [Fact]
    public void S08_reset_needs_every_block_to_be_free()
    {
        using BlockIndex index = Of(10, 16, events: true);
        IndexedTable table = index.Open([.. Common, 1000]);
        index.TakeEvents();
        string before = index.State();
        Assert.False(index.TryReset());
        Assert.Equal(before, index.State());
        Assert.Empty(index.TakeEvents());
        table.Free();
        Assert.True(index.TryReset());
        Assert.All(Range(1, 10), block => Assert.True(index[block].Hash.IsNull));
        Assert.Equal((0, 10), (index.HashedTokens(), index.FreeCount()));
        Assert.Equal(PrefixEventKind.AllCleared, Assert.Single(index.TakeEvents()).Kind);
        Assert.Equal(0, index.Query(Common).Tokens);
    }

    [Fact]
    public void S09_of_two_blocks_with_a_hash_the_second_answers_when_the_first_is_gone()
    {
        using BlockIndex index = Of(3, 16, events: true);
        var blocks = new int[3];
        Assert.True(index.TryAllocate([], blocks));
        var h = new BlockHash[1];
        BlockHash.Chain(Root, Range(0, 16), 16, h);
        index.Publish(Root, h, Range(0, 16), [1]);
        index.Publish(Root, h, Range(0, 16), [3]);
        Assert.Equal(1, index.Find(h[0]));
        index.Release([1]);
        Assert.Equal(1, index.Evict());
        Assert.Equal(3, index.Find(h[0]));
        Assert.DoesNotContain(index.TakeEvents(), e => e.Kind == PrefixEventKind.Removed);
        index.Release([3]);
        Assert.Equal(3, index.Evict());
        Assert.Equal(0, index.Find(h[0]));
        Assert.Equal(h[0], Assert.Single(index.TakeEvents()).Hashes.Span[0]);
        Assert.Equal(0, index.Evict());
    }
}
