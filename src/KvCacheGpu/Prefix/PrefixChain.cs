using System.Runtime.CompilerServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// The hashes of a sequence's sealed pages, and the blocks of the index that it holds for them. Callers are inside of the pool's gate.
/// </summary>
/// <remarks>
/// <code>
/// per page:   block, int32, 0 if none is held | hash, 32 bytes
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
    private readonly int* _blocks;
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
        _blocks = (int*)(_hashes + _capacity);
        _slots = new int[shape.Geometry.Layers * shape.Geometry.KvHeads];
    }

    private Span<int> Blocks => new(_blocks, _capacity);

    public static long BookkeepingBytes(KernelShape shape) => (long)shape.TableCapacity * (BlockHash.Bytes + sizeof(int));

    /// <summary>The block that the sequence holds for a page, or 0.</summary>
    public int BlockOf(int page) => page < _count ? _blocks[page] : 0;

    /// <summary>Lists the pages of the longest resident prefix in an empty table.</summary>
    /// <param name="ids">Token ids, at most as many as a table holds.</param>
    /// <param name="table">The sequence's table.</param>
    /// <returns>Tokens now in the table.</returns>
    public int Reuse(ReadOnlySpan<int> ids, PageTable table)
    {
        BlockMatch match = _index.Match(_root, ids, Blocks, _pages.HitsInPart);
        for (int page = 0; page < match.WholeBlocks; page++)
        {
            _index.Hold(_blocks[page]);
            _hashes[page] = _index[_blocks[page]].Hash;
            Retain(page);
            _pages.ListIn(table, _blocks[page], _pageTokens);
        }

        _count = match.WholeBlocks;
        if (match.PartialTokens > 0)
        {
            // Holding and releasing the block marks it as used. The table holds its pages until a step copies them.
            int block = _blocks[match.WholeBlocks];
            _index.Hold(block);
            _pages.ListIn(table, block, match.PartialTokens);
            _index.Release([block]);
        }

        return match.Tokens;
    }

    /// <summary>Hashes the pages that were sealed since the last call, and publishes their blocks.</summary>
    /// <param name="ids">The sequence's token ids.</param>
    /// <param name="table">The sequence's table.</param>
    public void Publish(ReadOnlySpan<int> ids, PageTable table)
    {
        // A sequence that was cut inside a sealed page and then restored ends with part of a sealed page.
        int end = Math.Min(table.FirstOpen, table.Length / _pageTokens);
        if (_count >= end)
        {
            return;
        }

        int first = _count;
        BlockHash.Chain(ParentOf(first), ids[(first * _pageTokens)..], _pageTokens, new Span<BlockHash>(_hashes + first, end - first));
        for (_count = first; _count < end; _count++)
        {
            // A page that a row has dropped or demoted has no block, and ends a run of new ones as a known block does.
            bool isNew = false;
            _blocks[_count] = TrySlotsOf(table, _count) ? HoldOrBind(_hashes[_count], out isNew) : 0;
            Retain(_count);
            if (!isNew)
            {
                PublishRun(first, _count, ids);
                first = _count + 1;
            }
        }

        PublishRun(first, end, ids);
    }

    /// <summary>Releases the blocks of all pages from the given one on.</summary>
    public void CutTo(int pages)
    {
        if (pages < _count)
        {
            _index.Release(Blocks[pages.._count]);
            _count = pages;
        }
    }

    /// <summary>Releases the block of a page that the sequence no longer lists in every row.</summary>
    public void Drop(int page)
    {
        if (BlockOf(page) != 0)
        {
            _index.Release(Blocks.Slice(page, 1));
            _blocks[page] = 0;
        }
    }

    /// <summary>Holds the blocks that another sequence holds. The chain must be empty.</summary>
    public void ShareWith(PrefixChain other)
    {
        _count = other._count;
        Unsafe.CopyBlock(_hashes, other._hashes, (uint)(_count * BlockHash.Bytes));
        for (int page = 0; page < _count; page++)
        {
            _blocks[page] = other._blocks[page];
            if (_blocks[page] != 0)
            {
                _index.Hold(_blocks[page]);
            }
        }
    }

    public void Dispose()
    {
        CutTo(0);
        _memory.Dispose();
    }

    // False if a row has dropped the page, or holds it in other formats than its layer seals in.
    private bool TrySlotsOf(PageTable table, int page)
    {
        for (int row = 0; row < table.Rows; row++)
        {
            int entry = table.EntryOf(row, page);
            if (entry < 0 || table.PageClass(row, entry) != table.SealedIn(row) || table.IsMerged(row, entry))
            {
                return false;
            }

            _slots[row] = table.Slot(row, entry);
        }

        return true;
    }

    private BlockHash ParentOf(int page) => page == 0 ? _root : _hashes[page - 1];

    // A fork that seals a page that it shares finds its block in the index. Other pages with equal tokens get a block of their own.
    private int HoldOrBind(in BlockHash hash, out bool isNew)
    {
        int known = _index.Find(hash);
        if (known != 0 && _pages.SlotsOf(known).SequenceEqual(_slots))
        {
            _index.Hold(known);
            isNew = false;
            return known;
        }

        int block = _pages.Bind(_slots);
        isNew = block != 0;
        return block;
    }

    private void PublishRun(int first, int end, ReadOnlySpan<int> ids)
    {
        if (first < end)
        {
            ReadOnlySpan<int> tokens = ids[(first * _pageTokens)..(end * _pageTokens)];
            _index.Publish(ParentOf(first), new ReadOnlySpan<BlockHash>(_hashes + first, end - first), tokens, Blocks[first..end]);
        }
    }

    private void Retain(int page)
    {
        if (_blocks[page] != 0 && _retention?.At(page, _pageTokens) is { } range)
        {
            _index.SetRetention(_blocks[page], range.Priority, (int)(range.Duration?.TotalMilliseconds ?? 0));
        }
    }
}
