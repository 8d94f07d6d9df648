using System.Runtime.CompilerServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Maps the blocks of a <see cref="BlockIndex"/> to the slots of their pages. A hashed block has a reference to every one of its pages, one per
/// row (layer, KV head), so that a block that can be hit is resident; it gives them up with its hash. Callers are inside of the pool's gate.
/// </summary>
/// <remarks>
/// <code>
/// int32[blocks][rows: layers * KV heads]   slot
/// </code>
/// </remarks>
internal sealed unsafe class PrefixPages : IDisposable
{
    private readonly PagePool _pool;
    private readonly NativeInts _slots;
    private readonly int _pagesPerBlock;

    public PrefixPages(int blocks, KernelShape shape, PagePool pool, MemoryLedger ledger, bool events, bool hitsInPart = false)
    {
        (_pool, _pagesPerBlock, HitsInPart) = (pool, PagesPerBlock(shape), hitsInPart);
        _slots = new NativeInts((long)blocks * _pagesPerBlock, ledger);
        Index = new BlockIndex(blocks, shape.Geometry.PageTokens, ledger, events: events, evicted: GiveUp);
    }

    public BlockIndex Index { get; }

    /// <summary>The block that is copied out without being held, or 0; it becomes 0 if the block is given up meanwhile, and what was copied has no meaning then.</summary>
    public int Watched { get; set; }

    /// <summary>What lies in lower tiers too; null without tiers.</summary>
    public BlocksBelow? Below { get; set; }

    /// <summary>True if part of a page can be hit: only if sealed pages are in full precision, since no other copy is exact.</summary>
    public bool HitsInPart { get; }

    /// <summary>The most bytes that a block takes in the index, hash buckets counted.</summary>
    public static long MostBytesOfBlock(KernelShape shape) =>
        Unsafe.SizeOf<IndexedBlock>() + ((shape.Geometry.PageTokens + PagesPerBlock(shape) + 4L) * sizeof(int));

    /// <summary>Bytes that a number of blocks take.</summary>
    public static long BookkeepingBytes(int blocks, KernelShape shape) =>
        BlockIndex.BookkeepingBytes(blocks, shape.Geometry.PageTokens) + ((long)blocks * PagesPerBlock(shape) * sizeof(int));

    /// <summary>The slots of a block's pages, one per row (layer, KV head).</summary>
    public Span<int> SlotsOf(int block) => new(_slots.Pointer + ((long)block * _pagesPerBlock), _pagesPerBlock);

    /// <summary>Holds blocks and every page of them.</summary>
    public void Hold(ReadOnlySpan<int> blocks)
    {
        foreach (int block in blocks)
        {
            Index.Hold(block);
            Below?.Use(block);
        }

        HoldPages(blocks);
    }

    /// <summary>Gives back blocks that were held, and their pages.</summary>
    public void Release(ReadOnlySpan<int> blocks)
    {
        Index.Release(blocks);
        ReleasePages(blocks);
    }

    /// <summary>Lists the pages of a block that is held, which follow the last page, in every row of a sequence; the references to them become the rows'.</summary>
    /// <param name="table">The sequence's table.</param>
    /// <param name="block">The block.</param>
    /// <param name="tokens">Tokens of it that become the sequence's.</param>
    public void ListIn(PageTable table, int block, int tokens)
    {
        int page = table.Length / Index.PageTokens;
        Span<int> slots = SlotsOf(block);
        for (int row = 0; row < slots.Length; row++)
        {
            table.List(row, page, slots[row], table.SealedIn(row));
        }

        table.Reach(table.Length + tokens, page + 1);
    }

    /// <summary>Takes a block for the pages whose slots are given.</summary>
    /// <returns>The block, held; 0 if another block names one of the pages.</returns>
    /// <exception cref="InvalidOperationException">No block is free, which cannot be: there is one more than sealed pages can fill.</exception>
    public int Bind(ReadOnlySpan<int> slots)
    {
        foreach (int slot in slots)
        {
            if (_pool.IsIndexed(slot))
            {
                return 0;
            }
        }

        int block = 0;
        if (!Index.TryAllocate([], new Span<int>(ref block)))
        {
            throw new InvalidOperationException($"expected a free block, got {Index.Count} blocks that are all held");
        }

        slots.CopyTo(SlotsOf(block));
        foreach (int slot in slots)
        {
            _pool.AddToIndex(slot);
        }

        return block;
    }

    /// <summary>Pins the whole blocks of a resident prefix, and holds their pages.</summary>
    /// <returns>The blocks, for <see cref="Unpin"/>.</returns>
    public int[] Pin(in BlockHash root, ReadOnlySpan<int> ids)
    {
        var blocks = new int[ids.Length / Index.PageTokens];
        blocks = blocks[..Index.Match(root, ids, blocks).Blocks];
        Index.Pin(blocks);
        HoldPages(blocks);
        return blocks;
    }

    /// <summary>Takes back the pins of blocks, and the references to their pages.</summary>
    public void Unpin(ReadOnlySpan<int> blocks)
    {
        Index.Unpin(blocks);
        ReleasePages(blocks);
    }

    /// <summary>Forgets every prefix. No sequence and no pin may hold one any longer.</summary>
    public void Dispose()
    {
        while (Index.Evict() > 0)
        {
        }

        Index.Dispose();
        _slots.Dispose();
    }

    private static int PagesPerBlock(KernelShape shape) => shape.Geometry.Layers * shape.Geometry.KvHeads;

    private void HoldPages(ReadOnlySpan<int> blocks)
    {
        foreach (int block in blocks)
        {
            foreach (int slot in SlotsOf(block))
            {
                _pool.AddReference(slot);
            }
        }
    }

    private void ReleasePages(ReadOnlySpan<int> blocks)
    {
        foreach (int block in blocks)
        {
            _pool.Release(SlotsOf(block));
        }
    }

    private void GiveUp(int block)
    {
        Watched = Watched == block ? 0 : Watched;
        Below?.GiveUp(block);
        foreach (int slot in SlotsOf(block))
        {
            _pool.RemoveFromIndex(slot);
        }
    }
}
