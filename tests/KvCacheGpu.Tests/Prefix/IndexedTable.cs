namespace KvCacheGpu.Tests;

/// <summary>A sequence on a bare <see cref="BlockIndex"/>: blocks for all its tokens, whole blocks published as they fill.</summary>
internal sealed class IndexedTable(BlockIndex index, BlockHash root)
{
    public List<int> Blocks { get; } = [];

    public List<int> Tokens { get; } = [];

    /// <summary>Tokens that the last <see cref="TryOpen"/> found.</summary>
    public int Hit { get; private set; }

    public bool TryOpen(int[] ids, bool partial = false)
    {
        var found = new int[(ids.Length / index.PageTokens) + 1];
        BlockMatch match = index.Match(root, ids, found, partial);
        int[] hits = found[..match.WholeBlocks];
        var taken = new int[((ids.Length + index.PageTokens - 1) / index.PageTokens) - hits.Length];
        if (!index.TryAllocate(hits, taken))
        {
            return false;
        }

        Hit = match.Tokens;
        Blocks.AddRange([.. hits, .. taken]);
        Tokens.AddRange(ids);
        PublishFrom(hits.Length);
        return true;
    }

    public bool TryAppend(params int[] ids)
    {
        int whole = Tokens.Count / index.PageTokens;
        var taken = new int[((Tokens.Count + ids.Length + index.PageTokens - 1) / index.PageTokens) - Blocks.Count];
        if (!index.TryAllocate([], taken))
        {
            return false;
        }

        Blocks.AddRange(taken);
        Tokens.AddRange(ids);
        PublishFrom(whole);
        return true;
    }

    /// <summary>Publishes the last block although it is not full, as a sequence does that will not write on.</summary>
    public void PublishTail()
    {
        int whole = Tokens.Count / index.PageTokens;
        Publish(whole, Blocks.Count);
    }

    public void Free()
    {
        index.Release([.. Blocks]);
        Blocks.Clear();
        Tokens.Clear();
    }

    private void PublishFrom(int first) => Publish(first, Tokens.Count / index.PageTokens);

    private void Publish(int first, int end)
    {
        if (first >= end)
        {
            return;
        }

        int[] ids = [.. Tokens];
        var hashes = new BlockHash[end];
        BlockHash.Chain(root, ids, index.PageTokens, hashes);
        BlockHash parent = first == 0 ? root : hashes[first - 1];
        int[] blocks = [.. Blocks[first..end]];
        index.Publish(parent, hashes.AsSpan(first), ids.AsSpan(first * index.PageTokens, Math.Min(ids.Length, end * index.PageTokens) - (first * index.PageTokens)), blocks);
    }
}
