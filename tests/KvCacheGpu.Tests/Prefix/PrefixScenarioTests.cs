using static KvCacheGpu.Tests.BlockIndexFixture;

namespace KvCacheGpu.Tests;

/// <summary>Scenarios 10 to 14, 19 and 25 as far as blocks go: events, windows, prefixes, namespaces, branches.</summary>
public sealed class PrefixScenarioTests
{
    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(10)]
    public void S10_one_event_for_what_is_stored_and_one_for_each_block_removed(int blocks)
    {
        using BlockIndex index = Of(blocks, 16, events: true);
        int[] ids = Range(0, blocks * 16);
        index.Open(ids).Free();
        PrefixEvent stored = Assert.Single(index.TakeEvents());
        Assert.Equal((PrefixEventKind.Stored, blocks, blocks * 16), (stored.Kind, stored.Hashes.Length, stored.TokenIds.Length));
        Assert.Equal(Root, stored.Parent);
        Assert.True(stored.TokenIds.Span.SequenceEqual(ids));
        Assert.Empty(index.TakeEvents());

        var taken = new int[blocks];
        Assert.True(index.TryAllocate([], taken));
        var hashes = new BlockHash[blocks];
        BlockHash.Chain(Root, ids, 16, hashes);
        index.Publish(Root, hashes, ids, taken);
        PrefixEvent[] events = index.TakeEvents();
        Assert.Equal(blocks + 1, events.Length);
        Assert.All(events[..^1], e => Assert.Equal((PrefixEventKind.Removed, 1), (e.Kind, e.Hashes.Length)));
        Assert.Equal(hashes.Reverse(), events[..^1].Select(e => e.Hashes.Span[0]));
        Assert.Equal((PrefixEventKind.Stored, blocks), (events[^1].Kind, events[^1].Hashes.Length));
        Assert.Empty(index.TakeEvents());
    }

    [Fact]
    public void S11_a_window_releases_what_it_leaves_behind_deepest_first()
    {
        using BlockIndex index = Of(10, 2);
        IndexedTable table = index.Open(Range(0, 11));
        int[] blocks = [.. table.Blocks];
        int[] held = [.. blocks];
        index.ReleaseOutsideWindow(blocks, 4, 4);
        Assert.Equal(held, blocks);
        index.ReleaseOutsideWindow(blocks, 5, 4);
        Assert.Equal([0, .. held[1..]], blocks);
        index.ReleaseOutsideWindow(blocks, 11, 4);
        Assert.Equal([0, 0, 0, 0, .. held[4..]], blocks);
        Assert.Equal([held[0], held[3], held[2], held[1]], index.FreeOrder()[^4..]);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void S12_a_branch_shares_what_it_has_in_common(int pageTokens)
    {
        using BlockIndex index = Of(20, pageTokens);
        index.Open(Range(1, 8)).Free();
        index.Open([1, 2, 9, 10]).Free();
        Assert.Equal(10, index.HashedTokens());
        Assert.Equal(4, index.Query([1, 2, 3, 4, 999, 1000]).Tokens);
        Assert.Equal(10, index.HashedTokens());
        Assert.Equal(8, index.Query(Range(1, 8)).Tokens);
    }

    [Fact]
    public void S12_a_block_is_hit_in_part_up_to_where_tokens_differ()
    {
        using BlockIndex index = Of(20, 4);
        index.Open(Range(1, 8)).Free();
        index.Open([1, 2, 3, 4, 5, 6, 70, 80]).Free();
        Assert.Equal(new BlockMatch(2, 7, 3), index.Query([1, 2, 3, 4, 5, 6, 70, 81], partial: true));
        Assert.Equal(new BlockMatch(2, 6, 2), index.Query([1, 2, 3, 4, 5, 6], partial: true));
        Assert.Equal(new BlockMatch(1, 2, 2), index.Query([1, 2], partial: true));
        Assert.Equal(new BlockMatch(1, 4, 0), index.Query([1, 2, 3, 4, 6], partial: true));
        Assert.Equal(default, index.Query([2, 1], partial: true));
        Assert.Equal(4, index.Query([1, 2, 3, 4, 5, 6, 70, 81]).Tokens);
    }

    [Fact]
    public void S13_every_key_is_a_world_of_its_own()
    {
        using BlockIndex index = Of(10, 3);
        BlockHash[] roots = [.. new[] { "key1", "key2", null }.Select(key => new PrefixNamespace { Salt = key }.ToHash())];
        foreach (BlockHash root in roots)
        {
            Assert.Equal(0, index.Open([1, 2, 3], root).Hit);
        }

        Assert.Equal(9, index.HashedTokens());
        Assert.All(roots, root => Assert.Equal(3, index.Query([1, 2, 3], root).Tokens));
        Assert.Equal(0, index.Query([1, 2, 3], new PrefixNamespace { Salt = "unknown" }.ToHash()).Tokens);
    }

    [Fact]
    public void S13_all_fields_are_told_apart()
    {
        PrefixNamespace[] all =
        [
            new(),
            new() { Salt = "" }, new() { Adapter = "" }, new() { Tenant = "" }, new() { ModelFingerprint = "" },
            new() { Salt = "x" }, new() { Adapter = "x" }, new() { Tenant = "x" }, new() { ModelFingerprint = "x" },
            new() { Salt = "x", Adapter = "y" }, new() { Salt = "y", Adapter = "x" }, new() { Tenant = "xA", Salt = "y" }, new() { Tenant = "x", Salt = "Ay" },
            new() { KeyFormat = PageFormat.I8 }, new() { ValueFormat = PageFormat.I8 }, new() { RotationSeed = 1 }, new() { PageTokens = 1 },
            new() { RotationSeed = ulong.MaxValue }, new() { PageTokens = 256 },
        ];
        Assert.Equal(all.Length, all.Select(n => n.ToHash()).Distinct().Count());
        Assert.Equal(all.Length, all.Select(n => BlockHash.Next(n.ToHash(), [1, 2])).Distinct().Count());
        Assert.Equal(new PrefixNamespace { Salt = "x" }.ToHash(), new PrefixNamespace { Salt = "x" }.ToHash());
    }

    [Fact]
    public void S13_the_namespace_is_hashed_as_it_is_drawn()
    {
        byte[] content =
        [
            .. "KvCacheGpu prefix 1"u8, (byte)'M', 1, 1, 0, 0, 0, (byte)'m', (byte)'A', 0, 0, 0, 0, 0, (byte)'T', 1, 0, 0, 0, 0,
            (byte)'S', 1, 2, 0, 0, 0, 0xC3, 0xA9, (byte)'K', 3, 0, 0, 0, 0, 0, 0, 0, (byte)'V', 1, 0, 0, 0, 0, 0, 0, 0,
            (byte)'R', 0, 1, 0, 0, 0, 0, 0, 0, (byte)'P', 64, 0, 0, 0, 0, 0, 0, 0,
        ];
        var drawn = new PrefixNamespace
        {
            ModelFingerprint = "m",
            Tenant = "",
            Salt = "\u00e9",
            KeyFormat = PageFormat.I8,
            ValueFormat = PageFormat.F16,
            RotationSeed = 256,
            PageTokens = 64,
        };
        Assert.Equal(Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(content)), drawn.ToHash().ToString());
    }

    [Fact]
    public void S14_equal_tokens_at_other_places_hash_differently()
    {
        using BlockIndex index = Of(10, 4);
        IndexedTable table = index.Open([1, 2, 3, 4, 1, 2, 3, 4]);
        BlockHash first = index[table.Blocks[0]].Hash;
        Assert.NotEqual(first, index[table.Blocks[1]].Hash);
        Assert.Equal(first, index[table.Blocks[1]].Parent);
        Assert.Equal(Root, index[table.Blocks[0]].Parent);
        Assert.Equal(64, first.ToString().Length);
    }

    [Fact]
    public void S14_the_hash_is_SHA_256_of_the_drawn_layout()
    {
        byte[] content = [(byte)'B', .. Convert.FromHexString(Root.ToString()), 2, 0, 0, 0, 1, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF];
        Assert.Equal(
            Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(content)), BlockHash.Next(Root, [1, -1]).ToString());
    }

    [Theory]
    [InlineData(true, 3, 5)]
    [InlineData(false, 2, 4)]
    public void S19_a_truncated_branch_leaves_the_other_whole(bool partial, int reusedByB, int reusedByA)
    {
        using BlockIndex index = Of(20, 4);
        int[] a = [.. Range(1, 11), .. Range(100, 8)];
        int[] b = [.. Range(1, 11), .. Range(200, 8)];
        IndexedTable tableA = index.Open(a, partial: partial);
        tableA.PublishTail();
        Assert.Equal(reusedByB, index.Query(b, partial: partial).Blocks);
        IndexedTable tableB = index.Open(b, partial: partial);
        tableB.PublishTail();
        tableA.Free();
        tableB.Free();
        Assert.Equal(5, index.Query(b, partial: true).Blocks);
        index.TruncateBranch(Root, b, 11);
        Assert.Equal(reusedByA, index.Query(a, partial: partial).Blocks);
        Assert.InRange(index.Query(b, partial: partial).Blocks, 2, 3);
        Assert.Equal(partial ? 11 : 8, index.Query(b, partial: partial).Tokens);
        Assert.Equal(19, index.HashedTokens());
    }

    [Fact]
    public void S19_what_someone_holds_of_a_branch_stays()
    {
        using BlockIndex index = Of(20, 4);
        IndexedTable held = index.Open(Range(1, 12));
        string before = index.State();
        index.TruncateBranch(Root, Range(1, 12), 4);
        Assert.Equal(before, index.State());
        held.Free();
        index.TruncateBranch(Root, Range(1, 12), 5);
        Assert.Equal(4, index.HashedTokens());
    }

    [Fact]
    public void A_hashed_block_and_a_free_block_cannot_be_published()
    {
        using BlockIndex index = Of(4, 4);
        IndexedTable table = index.Open(Range(0, 4));
        var hash = new BlockHash[1];
        BlockHash.Chain(Root, Range(9, 4), 4, hash);
        string before = index.State();
        Assert.Throws<InvalidOperationException>(() => index.Publish(Root, hash, Range(9, 4), [table.Blocks[0]]));
        Assert.Throws<InvalidOperationException>(() => index.Publish(Root, hash, Range(9, 4), [index.FreeOrder()[0]]));
        Assert.Throws<InvalidOperationException>(() => index.Release([index.FreeOrder()[0]]));
        Assert.Equal(before, index.State());
    }
}
