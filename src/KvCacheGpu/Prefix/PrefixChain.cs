using System.Runtime.CompilerServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// The hashes of a sequence's sealed blocks, and the rows that it holds for them. The pool's gate is held around every call.
/// </summary>
/// <remarks>
/// <code>
/// per block:   row, int32, 0 where none is held | hash, 32 bytes
/// </code>
/// </remarks>
internal sealed unsafe class PrefixChain : IDisposable
{
    private readonly PrefixPages _pages;
    private readonly BlockIndex _index;
    private readonly RetentionMap? _retention;
    private readonly BlockHash _root;
    private readonly NativeInts _memory;
    private readonly BlockHash* _hashes;
    private readonly int* _rows;
    private readonly int _capacity;
    private readonly int _pageTokens;
    private readonly int[] _slots;
    private int _count;

    public PrefixChain(PrefixPages pages, KernelShape shape, BlockHash root, RetentionMap? retention, MemoryLedger ledger)
    {
        (_pages, _index, _root, _retention) = (pages, pages.Index, root, retention);
        (_capacity, _pageTokens) = (shape.TableCapacity, shape.Geometry.PageTokens);
        _memory = new NativeInts(BookkeepingBytes(shape) / sizeof(int), ledger);
        _hashes = (BlockHash*)_memory.Pointer;
        _rows = (int*)(_hashes + _capacity);
        _slots = new int[shape.Geometry.Layers * shape.Geometry.KvHeads];
    }

    private Span<int> Rows => new(_rows, _capacity);

    public static long BookkeepingBytes(KernelShape shape) => (long)shape.TableCapacity * (BlockHash.Bytes + sizeof(int));

    /// <summary>The row that the sequence holds for a block, or 0.</summary>
    public int RowOf(int block) => block < _count ? _rows[block] : 0;

    /// <summary>Lists the pages of the longest resident prefix in an empty table.</summary>
    /// <param name="ids">Token ids, at most as many as a table holds.</param>
    /// <param name="table">The sequence's table.</param>
    /// <returns>Tokens now in the table.</returns>
    public int Reuse(ReadOnlySpan<int> ids, PageTable table)
    {
        BlockMatch match = _index.Match(_root, ids, Rows, _pages.HitsInPart);
        for (int block = 0; block < match.WholeRows; block++)
        {
            _index.Hold(_rows[block]);
            _hashes[block] = _index.HashOf(_rows[block]);
            Retain(block);
            table.Adopt(_pages.SlotsOf(_rows[block]), _pageTokens);
        }

        _count = match.WholeRows;
        if (match.PartialTokens > 0)
        {
            // Held and released, it counts as used; the page itself is the table's until it is copied.
            int row = _rows[match.WholeRows];
            _index.Hold(row);
            table.Adopt(_pages.SlotsOf(row), match.PartialTokens);
            _index.Release([row]);
        }

        return match.Tokens;
    }

    /// <summary>Hashes the blocks that were sealed since, and makes them hittable.</summary>
    /// <param name="ids">The sequence's token ids.</param>
    /// <param name="table">The sequence's table.</param>
    public void Publish(ReadOnlySpan<int> ids, PageTable table)
    {
        // A sequence cut inside a sealed page, and then restored, ends with part of one.
        int end = Math.Min(table.FirstOpen, table.Length / _pageTokens);
        if (_count >= end)
        {
            return;
        }

        int first = _count;
        BlockHash.Chain(ParentOf(first), ids[(first * _pageTokens)..], _pageTokens, new Span<BlockHash>(_hashes + first, end - first));
        for (_count = first; _count < end; _count++)
        {
            bool isNew = false;
            _rows[_count] = table.TrySlotsOf(_count, _slots) ? HoldOrBind(_hashes[_count], out isNew) : 0;
            Retain(_count);
            if (!isNew)
            {
                PublishRun(first, _count, ids);
                first = _count + 1;
            }
        }

        PublishRun(first, end, ids);
    }

    /// <summary>Lets go of every block from the given one on.</summary>
    public void CutTo(int blocks)
    {
        if (blocks < _count)
        {
            _index.Release(Rows[blocks.._count]);
            _count = blocks;
        }
    }

    /// <summary>Lets go of a block that the sequence no longer lists in full.</summary>
    public void Drop(int block)
    {
        if (RowOf(block) != 0)
        {
            _index.Release(Rows.Slice(block, 1));
            _rows[block] = 0;
        }
    }

    /// <summary>Holds what another sequence holds.</summary>
    public void ShareWith(PrefixChain other)
    {
        _count = other._count;
        Unsafe.CopyBlock(_hashes, other._hashes, (uint)(_count * BlockHash.Bytes));
        for (int block = 0; block < _count; block++)
        {
            _rows[block] = other._rows[block];
            if (_rows[block] != 0)
            {
                _index.Hold(_rows[block]);
            }
        }
    }

    public void Dispose()
    {
        CutTo(0);
        _memory.Dispose();
    }

    private BlockHash ParentOf(int block) => block == 0 ? _root : _hashes[block - 1];

    // A fork that seals a shared page finds it named already; equal tokens in other pages get a row of their own.
    private int HoldOrBind(in BlockHash hash, out bool isNew)
    {
        int known = _index.Find(hash);
        isNew = known == 0 || !_pages.SlotsOf(known).SequenceEqual(_slots);
        if (!isNew)
        {
            _index.Hold(known);
            return known;
        }

        int row = _pages.Bind(_slots);
        isNew = row != 0;
        return row;
    }

    private void PublishRun(int first, int end, ReadOnlySpan<int> ids)
    {
        if (first < end)
        {
            ReadOnlySpan<int> tokens = ids[(first * _pageTokens)..(end * _pageTokens)];
            _index.Publish(ParentOf(first), new ReadOnlySpan<BlockHash>(_hashes + first, end - first), tokens, Rows[first..end]);
        }
    }

    private void Retain(int block)
    {
        if (_rows[block] != 0 && _retention?.At(block, _pageTokens) is { } range)
        {
            _index.SetRetention(_rows[block], range.Priority, (int)(range.Duration?.TotalMilliseconds ?? 0));
        }
    }
}
