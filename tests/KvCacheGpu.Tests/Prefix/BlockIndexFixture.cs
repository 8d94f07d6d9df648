namespace KvCacheGpu.Tests;

/// <summary>Makes indexes of a number of usable blocks, and reads of them what the scenarios state.</summary>
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

    /// <summary>The free blocks in the order in which they are taken.</summary>
    public static int[] FreeOrder(this BlockIndex index)
    {
        // Asking for a priority brings the free lists up to date.
        index.PriorityOf(1);
        var order = new List<int>();
        foreach (int first in index.Usable().Where(b => index[b].References == 0 && index[b].Previous == 0).OrderBy(b => index[b].List))
        {
            for (int block = first; block != 0; block = index[block].Next)
            {
                order.Add(block);
            }
        }

        return [.. order];
    }

    public static int FreeCount(this BlockIndex index) => index.Usable().Count(b => index[b].References == 0);

    /// <summary>Number of tokens of hashed blocks that somebody holds.</summary>
    public static int ProtectedTokens(this BlockIndex index) => index.Usable().Where(b => index[b].References > 0).Sum(b => index[b].Tokens);

    /// <summary>Number of tokens of hashed blocks that nobody holds: they can be hit, and evicted.</summary>
    public static int EvictableTokens(this BlockIndex index) => index.Usable().Where(b => index[b].References == 0).Sum(b => index[b].Tokens);

    public static int HashedTokens(this BlockIndex index) => index.Usable().Sum(b => index[b].Tokens);

    /// <summary>The priorities of all blocks of a number of tokens; null for a block outside every range.</summary>
    public static int?[] PrioritiesFor(this RetentionMap map, int tokens, int pageTokens) =>
        [.. Enumerable.Range(0, (tokens + pageTokens - 1) / pageTokens).Select(block => map.At(block, pageTokens)?.Priority)];

    /// <summary>A text that differs if a call that must change nothing did change something.</summary>
    public static string State(this BlockIndex index) =>
        $"{string.Join(',', index.FreeOrder())}|{string.Join(',', index.Usable().Select(b => $"{index[b].References}:{index[b].Pins}:{index[b].Hash}"))}";

    private static IEnumerable<int> Usable(this BlockIndex index) => Enumerable.Range(1, index.Count - 1);

    internal sealed class Clock : TimeProvider
    {
        public long Milliseconds { get; set; }

        public override long TimestampFrequency => 1000;

        public override long GetTimestamp() => Milliseconds;
    }
}
