namespace KvCacheGpu.Tests;

/// <summary>Indexes of a number of usable rows, and what the scenarios ask of them.</summary>
internal static class BlockIndexFixture
{
    public static readonly BlockHash Root = new PrefixNamespace { PageTokens = 16 }.ToHash();

    public static BlockIndex Of(int usable, int pageTokens, bool sharing = true, bool events = false, TimeProvider? time = null) =>
        new(usable + 1, pageTokens, new MemoryLedger(null), sharing, events, time);

    public static int[] Range(int first, int count) => [.. Enumerable.Range(first, count)];

    public static IndexedTable Open(this BlockIndex index, int[] ids, BlockHash? root = null, bool partial = false)
    {
        var table = new IndexedTable(index, root ?? Root);
        Assert.True(table.TryOpen(ids, partial), "refused");
        return table;
    }

    public static BlockMatch Query(this BlockIndex index, int[] ids, BlockHash? root = null, bool partial = false) =>
        index.Match(root ?? Root, ids, new int[ids.Length + 1], partial);

    /// <summary>What shows when a call that must change nothing did.</summary>
    public static string State(this BlockIndex index) =>
        $"{string.Join(',', index.FreeOrder())}|{string.Join(',', Enumerable.Range(1, index.Rows - 1).Select(r => $"{index.References(r)}:{index.HashOf(r)}"))}"
        + $"|{index.ProtectedTokens}|{index.EvictableTokens}";

    internal sealed class Clock : TimeProvider
    {
        public long Milliseconds { get; set; }

        public override long TimestampFrequency => 1000;

        public override long GetTimestamp() => Milliseconds;
    }
}
