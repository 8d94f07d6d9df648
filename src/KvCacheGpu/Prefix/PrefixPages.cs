using System.Runtime.CompilerServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// The page slots behind the rows of a <see cref="BlockIndex"/>. A hashed row has a reference to every one of its pages, over all layers and
/// heads, so that what can be hit is resident; it gives them up with its hash. The pool's gate is held around every call.
/// </summary>
/// <remarks>
/// <code>
/// int32[rows][layers * KV heads]   slot
/// </code>
/// </remarks>
internal sealed unsafe class PrefixPages : IDisposable
{
    private readonly PagePool _pool;
    private readonly NativeInts _slots;
    private readonly int _pagesPerBlock;

    public PrefixPages(int rows, KernelShape shape, PagePool pool, MemoryLedger ledger, bool events, bool hitsInPart = false)
    {
        (_pool, _pagesPerBlock, HitsInPart) = (pool, PagesPerBlock(shape), hitsInPart);
        _slots = new NativeInts((long)rows * _pagesPerBlock, ledger);
        Index = new BlockIndex(rows, shape.Geometry.PageTokens, ledger, events: events, evicted: GiveUp);
    }

    public BlockIndex Index { get; }

    /// <summary>Whether part of a page can be hit: its copy is exact only where sealed pages are in full precision.</summary>
    public bool HitsInPart { get; }

    /// <summary>Bytes that a row takes, hash buckets counted.</summary>
    public static long MostBytesOfRow(KernelShape shape) =>
        Unsafe.SizeOf<BlockRow>() + ((shape.Geometry.PageTokens + PagesPerBlock(shape) + 4L) * sizeof(int));

    /// <summary>Bytes that so many rows take.</summary>
    public static long BookkeepingBytes(int rows, KernelShape shape) =>
        BlockIndex.BookkeepingBytes(rows, shape.Geometry.PageTokens) + ((long)rows * PagesPerBlock(shape) * sizeof(int));

    /// <summary>The slots of a row's pages, one per (layer, KV head).</summary>
    public Span<int> SlotsOf(int row) => new(_slots.Pointer + ((long)row * _pagesPerBlock), _pagesPerBlock);

    /// <summary>Takes a row for the pages whose slots are given.</summary>
    /// <returns>The row, held; 0 where another row names one of the pages.</returns>
    public int Bind(ReadOnlySpan<int> slots)
    {
        foreach (int slot in slots)
        {
            if (_pool.IsIndexed(slot))
            {
                return 0;
            }
        }

        int row = 0;
        if (Index.TryAllocate([], new Span<int>(ref row)))
        {
            slots.CopyTo(SlotsOf(row));
            foreach (int slot in slots)
            {
                _pool.AddToIndex(slot);
            }
        }

        return row;
    }

    /// <summary>Pins the whole blocks of a resident prefix, and their pages.</summary>
    public int[] Pin(in BlockHash root, ReadOnlySpan<int> ids)
    {
        var rows = new int[ids.Length / Index.PageTokens];
        rows = rows[..Index.Match(root, ids, rows).Rows];
        Index.Pin(rows);
        foreach (int row in rows)
        {
            foreach (int slot in SlotsOf(row))
            {
                _pool.AddReference(slot);
            }
        }

        return rows;
    }

    public void Unpin(ReadOnlySpan<int> rows)
    {
        Index.Unpin(rows);
        foreach (int row in rows)
        {
            foreach (int slot in SlotsOf(row))
            {
                _pool.Release(slot);
            }
        }
    }

    /// <summary>Forgets every prefix; no sequence and no pin holds one any longer.</summary>
    public void Dispose()
    {
        while (Index.Evict() > 0)
        {
        }

        Index.Dispose();
        _slots.Dispose();
    }

    private static int PagesPerBlock(KernelShape shape) => shape.Geometry.Layers * shape.Geometry.KvHeads;

    private void GiveUp(int row)
    {
        foreach (int slot in SlotsOf(row))
        {
            _pool.RemoveFromIndex(slot);
        }
    }
}
