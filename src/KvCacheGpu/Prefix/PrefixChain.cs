using System.Diagnostics;
using System.Runtime.CompilerServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// The hashes of a sequence's sealed pages, and the blocks of the index that it holds for them. Callers are inside of the pool's gate.
/// </summary>
/// <remarks>
/// <code>
/// by page:   block, int32, 0 if none is held;   hash, 32 bytes
/// </code>
/// </remarks>
internal sealed unsafe class PrefixChain : IDisposable
{
    private readonly PrefixPages _pages;
    private readonly BlockIndex _index;
    private readonly RetentionMap? _retention;
    private readonly NativeInts _hashWords;
    private readonly NativeInts _blocks;
    private readonly int _pageTokens;
    private readonly int[] _slots;
    private int _count;

    public PrefixChain(PrefixPages pages, KernelShape shape, BlockHash root, RetentionMap? retention, MemoryLedger ledger)
    {
        (_pages, _index, Root, _retention) = (pages, pages.Index, root, retention);
        _pageTokens = shape.Geometry.PageTokens;
        _hashWords = new NativeInts(0, ledger);
        _blocks = new NativeInts(0, ledger);
        _slots = new int[shape.Geometry.Layers * shape.Geometry.KvHeads];
    }

    /// <summary>The parent of the first block. It changes with the key scales, which a sequence has before its first page is sealed in a T format.</summary>
    public BlockHash Root
    {
        get;
        set
        {
            Debug.Assert(_count == 0, "blocks hang on their root");
            field = value;
        }
    }

    /// <summary>Bytes for each page that rows may list.</summary>
    public static int BytesOfPage => BlockHash.Bytes + sizeof(int);

    private Span<int> Blocks => _blocks.Span;

    private BlockHash* Hashes => (BlockHash*)_hashWords.Pointer;

    /// <summary>Makes room for so many pages, at least those that have blocks.</summary>
    public void Resize(int pages)
    {
        _hashWords.Resize((long)pages * (BlockHash.Bytes / sizeof(int)));
        _blocks.Resize(pages);
    }

    /// <summary>The block that the sequence holds for a page, or 0.</summary>
    public int BlockOf(int page) => page < _count ? Blocks[page] : 0;

    /// <summary>Finds the blocks of the longest resident prefix, and holds them, so that nothing gives them up meanwhile.</summary>
    /// <param name="ids">Token ids.</param>
    /// <param name="blocks">Receives the blocks: room for one for each page that the ids touch.</param>
    public BlockMatch Hold(ReadOnlySpan<int> ids, Span<int> blocks)
    {
        BlockMatch match = _index.Match(Root, ids, blocks, _pages.HitsInPart);
        _pages.Hold(blocks[..match.Blocks]);
        return match;
    }

    /// <summary>Gives back blocks that were held and are not listed.</summary>
    public void Release(ReadOnlySpan<int> blocks) => _pages.Release(blocks);

    /// <summary>Lists the pages of a prefix that is held in an empty table that has room for them.</summary>
    /// <param name="match">What was found.</param>
    /// <param name="blocks">Its blocks.</param>
    /// <param name="table">The sequence's table.</param>
    public void List(in BlockMatch match, ReadOnlySpan<int> blocks, PageTable table)
    {
        for (int page = 0; page < match.WholeBlocks; page++)
        {
            Blocks[page] = blocks[page];
            Hashes[page] = _index[blocks[page]].Hash;
            Retain(page);
            _pages.ListIn(table, blocks[page], _pageTokens);
        }

        _count = match.WholeBlocks;
        if (match.PartialTokens > 0)
        {
            // Held until here, the block counts as used. The table holds its pages until a step copies them.
            _pages.ListIn(table, blocks[match.WholeBlocks], match.PartialTokens);
            _index.Release(blocks.Slice(match.WholeBlocks, 1));
        }
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
        BlockHash.Chain(ParentOf(first), ids[(first * _pageTokens)..], _pageTokens, new Span<BlockHash>(Hashes + first, end - first));
        for (_count = first; _count < end; _count++)
        {
            // A page that a row has dropped or demoted has no block, and ends a run of new ones as a known block does.
            bool isNew = false;
            Blocks[_count] = TrySlotsOf(table, _count) ? HoldOrBind(Hashes[_count], out isNew) : 0;
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
            Blocks[page] = 0;
        }
    }

    /// <summary>Holds the blocks that another sequence holds. The chain must be empty.</summary>
    public void ShareWith(PrefixChain other)
    {
        _count = other._count;
        Unsafe.CopyBlock(Hashes, other.Hashes, (uint)(_count * BlockHash.Bytes));
        for (int page = 0; page < _count; page++)
        {
            Blocks[page] = other.Blocks[page];
            if (Blocks[page] != 0)
            {
                _index.Hold(Blocks[page]);
            }
        }
    }

    public void Dispose()
    {
        CutTo(0);
        _hashWords.Dispose();
        _blocks.Dispose();
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

    private BlockHash ParentOf(int page) => page == 0 ? Root : Hashes[page - 1];

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
            _index.Publish(ParentOf(first), new ReadOnlySpan<BlockHash>(Hashes + first, end - first), tokens, Blocks[first..end]);
        }
    }

    private void Retain(int page)
    {
        if (Blocks[page] != 0 && _retention?.At(page, _pageTokens) is { } range)
        {
            _index.SetRetention(Blocks[page], range.Priority, (int)(range.Duration?.TotalMilliseconds ?? 0));
        }
    }
}
