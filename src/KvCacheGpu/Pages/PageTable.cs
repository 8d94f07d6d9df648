using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// The table rows of one sequence: which pages it holds, one row per (layer, KV head). Knows pages and lengths; callers hold the
/// pool's gate where references change.
/// </summary>
/// <remarks>
/// <code>
/// pages of a row, by page index:   [ sealed, some dropped ... | FirstOpen: open, contiguous ... | tail ]
///                                                                                 tail = page of token Length - 1
/// A page is sealed once the sequence reaches a page beyond it: a rollback of up to a page of tokens meets open pages only. Between steps never
/// more are open, however the sequence came to be: steps have no places to seal more.
/// </code>
/// </remarks>
internal sealed unsafe partial class PageTable
{
    private readonly KernelTier _tier;
    private readonly TableMap _map;
    private readonly PagePool _pool;
    private readonly PageScrub _scrub;
    private readonly int _owner;
    private readonly int _firstRow;
    private readonly int _pageTokens;
    private readonly int _heads;
    private readonly PageClasses _classes;
    private int _firstOpen;
    private int _pendingTokens;
    private int _pendingFirstOpen;

    public PageTable(KernelTier tier, PageClasses classes, PagePool pool, PageScrub scrub, int sequence, int owner)
    {
        (_tier, _map, _classes, _pool, _scrub, Sequence, _owner) = (tier, tier.Map, classes, pool, scrub, sequence, owner);
        KvGeometry geometry = tier.Shape.Geometry;
        Rows = geometry.Layers * geometry.KvHeads;
        _firstRow = _map.Row(sequence, 0, 0);
        _pageTokens = geometry.PageTokens;
        _heads = geometry.KvHeads;
        for (int row = 0; row < Rows; row++)
        {
            SetCount(row, 0);
        }
    }

    /// <summary>The sequence's slot in the tables.</summary>
    public int Sequence { get; }

    /// <summary>Layers times KV heads.</summary>
    public int Rows { get; }

    /// <summary>Whether seals leave the squared norms of keys and values among the scores.</summary>
    public bool WritesSquares { get; init; }

    /// <summary>Tokens, without those of a step under way.</summary>
    public int Length { get; private set; }

    /// <summary>First page that is still written or may be; all before are sealed.</summary>
    public int FirstOpen => _firstOpen;

    private int TailTokens => Length % _pageTokens;

    public int Count(int row) => _tier.Tables[_firstRow + row];

    public int Slot(int row, int entry) => _tier.Tables[_map.SlotWord(_firstRow + row, entry)];

    public int PageIndex(int row, int entry) => TableMap.PageIndexOf(_tier.Tables[_map.TagWord(_firstRow + row, entry)]);

    public int PageClass(int row, int entry) => TableMap.ClassOf(_tier.Tables[_map.TagWord(_firstRow + row, entry)]);

    /// <summary>Tokens that an entry's page holds for this sequence.</summary>
    public int TokensIn(int row, int entry) => (int)Math.Min(_pageTokens, Length - ((long)PageIndex(row, entry) * _pageTokens));

    public int ResidentTokens(int row)
    {
        int count = Count(row);
        return count == 0 ? 0 : ((count - 1) * _pageTokens) + TokensIn(row, count - 1);
    }

    /// <summary>Pages over all rows, by class.</summary>
    public SlotCounts ListedPages()
    {
        SlotCounts pages = default;
        for (int row = 0; row < Rows; row++)
        {
            for (int entry = 0; entry < Count(row); entry++)
            {
                pages[PageClass(row, entry)]++;
            }
        }

        return pages;
    }

    /// <summary>Whether two rows list pages of the same tokens.</summary>
    public bool ListsSamePages(int row, int other)
    {
        int count = Count(row);
        for (int entry = 0; entry < count; entry++)
        {
            if (count != Count(other) || PageIndex(row, entry) != PageIndex(other, entry))
            {
                return false;
            }
        }

        return count == Count(other) && Dead?.Same(row, other) != false;
    }

    /// <summary>Shares all pages of another sequence's rows. The gate is held.</summary>
    public void ShareWith(PageTable other)
    {
        (Length, _firstOpen) = (other.Length, other._firstOpen);
        ShareDead(other);
        for (int row = 0; row < Rows; row++)
        {
            int count = other.Count(row);
            for (int entry = 0; entry < count; entry++)
            {
                int slot = other.Slot(row, entry);
                _pool.AddReference(slot);
                Set(row, entry, slot, TableMap.Tag(other.PageClass(row, entry), other.PageIndex(row, entry)));
            }

            SetCount(row, count);
        }
    }

    /// <summary>Drops every page from the given page index on. The gate is held.</summary>
    public void CutTo(int length)
    {
        Length = length;
        int pages = PagesFor(length);
        _firstOpen = Math.Min(_firstOpen, pages);
        for (int row = 0; row < Rows; row++)
        {
            int count = Count(row);
            while (count > 0 && PageIndex(row, count - 1) >= pages)
            {
                // Merged, it goes whole: its tokens before the cut are lost.
                Dead?.Kill(row, FirstPageOf(row, count - 1), PageIndex(row, count - 1));
                _pool.Release(Slot(row, --count));
            }

            SetCount(row, count);
            Dead?.CutTo(row, length);
        }
    }

    /// <summary>The longest length up to the given one whose last page is whole, or resident in every row as it was written.</summary>
    public int CuttableLength(int length)
    {
        int tail = length / _pageTokens;
        if (length % _pageTokens == 0)
        {
            return length;
        }

        for (int row = 0; row < Rows; row++)
        {
            if (EntryOf(row, tail) is var entry && (entry < 0 || IsMerged(row, entry)))
            {
                return tail * _pageTokens;
            }
        }

        return length;
    }

    /// <summary>Pages that must be encoded again once the sequence, cut to a length, grows over its last page.</summary>
    public int ReencodedPagesAt(int length)
    {
        int page = length / _pageTokens;
        int reencoded = 0;
        for (int row = 0; length % _pageTokens != 0 && page < _firstOpen && row < Rows; row++)
        {
            reencoded += _classes.IsReencoded(PageClass(row, EntryOf(row, page)), row / _heads) ? 1 : 0;
        }

        return reencoded;
    }

    /// <summary>How many pages of a row a policy may drop, its first entries: sealed, and followed by a whole page.</summary>
    public int DroppablePages(int row)
    {
        int end = Math.Min(_firstOpen, SealedPagesAt(Length));
        int count = Count(row);
        while (count > 0 && PageIndex(row, count - 1) >= end)
        {
            count--;
        }

        return count;
    }

    /// <summary>Bytes that dropping an entry frees: none while another sequence holds its page. The gate is held.</summary>
    public int FreedBy(int row, int entry) =>
        _pool.IsHeldOnce(Slot(row, entry)) ? _classes.Shape.Classes[PageClass(row, entry)].Bytes : 0;

    /// <summary>First word of a page's scores.</summary>
    public int ScoreWord(int row, int page) => _map.ScoreWord(_firstRow + row, page);

    /// <summary>Drops a row's flagged pages and closes the gaps. The gate is held.</summary>
    public void Drop(int row, ReadOnlySpan<bool> drops)
    {
        int count = Count(row);
        int kept = 0;
        for (int entry = 0; entry < count; entry++)
        {
            if (entry < drops.Length && drops[entry])
            {
                Dead?.Kill(row, FirstPageOf(row, entry), PageIndex(row, entry));
                _pool.Release(Slot(row, entry));
                continue;
            }

            if (kept != entry)
            {
                Set(row, kept, Slot(row, entry), TableMap.Tag(PageClass(row, entry), PageIndex(row, entry)));
            }

            kept++;
        }

        SetCount(row, kept);
    }

    /// <summary>The entry of a page, or -1 where the row does not list it.</summary>
    /// <remarks>Rows ascend by page index and only lose entries, so that a page lies at its index or before.</remarks>
    public int EntryOf(int row, int pageIndex)
    {
        for (int entry = Math.Min(pageIndex, Count(row) - 1); entry >= 0; entry--)
        {
            int found = PageIndex(row, entry);
            if (found <= pageIndex)
            {
                return found == pageIndex ? entry : -1;
            }
        }

        return -1;
    }

    private int PagesFor(int tokens) => (int)(((long)tokens + _pageTokens - 1) / _pageTokens);

    private void SetCount(int row, int count) => _tier.Write(_firstRow + row, count);

    private void Set(int row, int entry, int slot, int tag)
    {
        _tier.Write(_map.SlotWord(_firstRow + row, entry), slot);
        _tier.Write(_map.TagWord(_firstRow + row, entry), tag);
    }

    private int SealedIn(int row) => _classes.SealedIn(row / _heads);

    // What a page has gone through once it is written from an entry into a class.
    private Encodings EncodingsAs(int pageClass, int row, int entry) =>
        _pool.EncodingsOf(Slot(row, entry)).After(_classes.Shape.Classes[PageClass(row, entry)], _classes.Shape.Classes[pageClass]);

    // A sealed page takes the place of what it was written from, which may be itself.
    private void Swap(int row, int entry, int slot, int pageClass)
    {
        int before = Slot(row, entry);
        if (slot != before)
        {
            _pool.SetEncodings(slot, EncodingsAs(pageClass, row, entry));
            _pool.Release(before);
        }

        _pool.Seal(slot, pageClass);
        Set(row, entry, slot, TableMap.Tag(pageClass, PageIndex(row, entry)));
    }
}
