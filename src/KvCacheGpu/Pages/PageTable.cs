using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// The pages of one sequence, one row per (layer, KV head): which they are and where they lie. It says what may become of them and lists what was
/// written; it writes no page (<see cref="PageWriter"/>). Callers are inside of the pool's gate where references change.
/// </summary>
/// <remarks>
/// <code>
/// pages of a row, by page index:   [ sealed, some dropped ... | FirstOpen: open, contiguous ... | tail ]
///                                                                                 tail = page of token Length - 1
/// A page is sealed once it is full and so many tokens follow it that a rollback does not reach it (<see cref="SealRule"/>). Between steps never
/// more are open, however the sequence came to be: steps have no places to seal more.
///
/// Between steps the table has the leaves that its pages take, by their indexes, and no more.
/// </code>
/// </remarks>
internal sealed unsafe class PageTable : IDisposable
{
    private readonly KernelTier _tier;
    private readonly TableMap _map;
    private readonly PagePool _pool;
    private readonly PageClasses _classes;
    private readonly TableLeaves _leaves;
    private readonly int _pageTokens;
    private readonly int _heads;
    private readonly LayerSet? _mergedLayers;
    private SlotCounts _listed;

    /// <param name="tier">Holds the tables.</param>
    /// <param name="classes">Layouts of the pages.</param>
    /// <param name="pool">Holds the pages.</param>
    /// <param name="sequence">The sequence's place in the tables; its rows become empty.</param>
    /// <param name="owner">Whose the pages are, above 0: what others left in their slots is cleared.</param>
    /// <param name="dead">Notes tokens that are gone where pages are merged; else null. The table's from now on.</param>
    /// <param name="ledger">Told of the memory.</param>
    public PageTable(KernelTier tier, PageClasses classes, PagePool pool, int sequence, int owner, DeadTokens? dead, MemoryLedger ledger)
    {
        _leaves = new TableLeaves(tier, sequence, ledger);
        (_tier, _map, _classes, _pool, Sequence, Owner, Dead) = (tier, tier.Map, classes, pool, sequence, owner, dead);
        KvGeometry geometry = tier.Shape.Geometry;
        Rows = geometry.Layers * geometry.KvHeads;
        _pageTokens = geometry.PageTokens;
        _heads = geometry.KvHeads;
        _mergedLayers = dead is null ? null : new LayerSet(geometry.Layers);
        for (int row = 0; row < Rows; row++)
        {
            SetCount(row, 0);
        }
    }

    /// <summary>The sequence's place in the tables.</summary>
    public int Sequence { get; }

    /// <summary>Whose the pages are.</summary>
    public int Owner { get; }

    /// <summary>Layers times KV heads.</summary>
    public int Rows { get; }

    /// <summary>The table of key scales that its T pages are under; -1 before there can be any.</summary>
    public int KeyTable { get; set; } = -1;

    /// <summary>A row under that table, as kernels name it.</summary>
    public int KeyRow(int row) => _tier.KeyRow(Math.Max(KeyTable, 0), row);

    /// <summary>Tokens that are gone, where pages are merged; else null.</summary>
    public DeadTokens? Dead { get; }

    /// <summary>Tokens, without those of a step under way.</summary>
    public int Length { get; private set; }

    /// <summary>First page that is still written or may be; all before are sealed.</summary>
    public int FirstOpen { get; private set; }

    /// <summary>Leaves that are open, from the first on.</summary>
    public int Leaves => _leaves.Count;

    /// <summary>Tokens of a last page that is not full; 0 if it is.</summary>
    public int TailTokens => Length % _pageTokens;

    /// <summary>Tokens whose pages one leaf lists.</summary>
    public int LeafTokens => _map.LeafPages * _pageTokens;

    public int Count(int row) => _tier.Tables[_map.CountWord(Sequence, row)];

    public int Slot(int row, int entry) => _leaves[_map.LeafOf(entry)][_map.SlotInLeaf(row, entry)];

    public int PageIndex(int row, int entry) => TableMap.PageIndexOf(Tag(row, entry));

    public int PageClass(int row, int entry) => TableMap.ClassOf(Tag(row, entry));

    /// <summary>The class that pages of a row are sealed in.</summary>
    public int SealedIn(int row) => _classes.SealedIn(row / _heads);

    /// <summary>Pages that so many tokens touch.</summary>
    public int PagesFor(int tokens) => (int)(((long)tokens + _pageTokens - 1) / _pageTokens);

    /// <summary>Tokens that an entry's page holds for this sequence, with so many of a step under way.</summary>
    public int TokensIn(int row, int entry, int ofStep = 0) => (int)Math.Min(_pageTokens, (long)Length + ofStep - ((long)PageIndex(row, entry) * _pageTokens));

    /// <summary>Leaves that so many tokens take.</summary>
    public int LeavesFor(int tokens) => _map.LeavesFor(PagesFor(tokens));

    /// <summary>Makes room to note so many leaves, at least those that are open.</summary>
    public void Resize(int leaves)
    {
        _leaves.Resize(leaves);
        Dead?.Resize(leaves * _map.LeafPages);
    }

    /// <summary>Opens the next leaf. The slot is the table's from now on.</summary>
    public void AddLeaf(int slot) => _leaves.Open(slot);

    /// <summary>Closes the leaves that lie beyond those of so many tokens, whose rows list nothing there any longer, without a look at their slots.</summary>
    public void CloseLeaves(int tokens) => _leaves.CloseBeyond(LeavesFor(tokens), null);

    /// <summary>Gives the memory back; the rows are empty.</summary>
    public void Dispose()
    {
        _leaves.Dispose();
        Dead?.Dispose();
    }

    public int ResidentTokens(int row, int ofStep = 0) => Count(row) is > 0 and int count ? ((count - 1) * _pageTokens) + TokensIn(row, count - 1, ofStep) : 0;

    /// <summary>First word in the arena of a page's scores.</summary>
    public long ScoreWord(int row, int page) => _tier.ScoreWord(Sequence, row, page);

    /// <summary>True if an entry's page never changes again.</summary>
    public bool IsSealed(int row, int entry) => PageIndex(row, entry) < FirstOpen;

    /// <summary>Pages over all rows, by class.</summary>
    public SlotCounts ListedPages() => _listed;

    /// <summary>True if two rows list pages of the same tokens.</summary>
    public bool ListsSamePages(int row, int other)
    {
        bool same = Count(row) == Count(other) && Dead?.Same(row, other) != false;
        for (int entry = 0; same && entry < Count(row); entry++)
        {
            same = PageIndex(row, entry) == PageIndex(other, entry);
        }

        return same;
    }

    /// <summary>The entry of a page, or -1 if the row does not list it.</summary>
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

    /// <summary>True if rows of a layer list, or listed, merged pages.</summary>
    public bool HasMerged(int layer) => _mergedLayers?[layer] == true;

    /// <summary>True if an entry's page holds other tokens than those of its page index.</summary>
    public bool IsMerged(int row, int entry) => Dead?.Any(row, PageIndex(row, entry)) == true;

    /// <summary>The first page index that an entry's tokens may be of; its own is the last.</summary>
    public int FirstPageOf(int row, int entry) =>
        !IsMerged(row, entry) ? PageIndex(row, entry) : entry == 0 ? 0 : PageIndex(row, entry - 1) + 1;

    /// <summary>Writes the positions of an entry's tokens, ascending.</summary>
    /// <returns>How many.</returns>
    public int PositionsOf(int row, int entry, Span<int> positions)
    {
        if (IsMerged(row, entry))
        {
            return Dead!.LivePositions(row, FirstPageOf(row, entry), PageIndex(row, entry), positions);
        }

        int tokens = TokensIn(row, entry);
        for (int token = 0; token < tokens; token++)
        {
            positions[token] = (PageIndex(row, entry) * _pageTokens) + token;
        }

        return tokens;
    }

    /// <summary>Finds where a row holds a token: its entry, and the place in that page.</summary>
    /// <returns>False if the token is gone.</returns>
    public bool TryFind(int row, int position, out int entry, out int token)
    {
        (int page, token) = Math.DivRem(position, _pageTokens);
        entry = EntryOf(row, page);
        if (entry >= 0 && !IsMerged(row, entry))
        {
            return true;
        }

        if (Dead is null)
        {
            return false;
        }

        // The first entry that reaches as far: it holds the token, or nothing does.
        entry = 0;
        while (entry < Count(row) && PageIndex(row, entry) < page)
        {
            entry++;
        }

        if (entry == Count(row) || !IsMerged(row, entry))
        {
            return false;
        }

        Span<int> positions = stackalloc int[_pageTokens];
        token = positions[..PositionsOf(row, entry, positions)].IndexOf(position);
        return token >= 0;
    }

    /// <summary>True if a sealed page may be demoted to a class: the layer allows it, and so do the encodings that the page went through.</summary>
    public bool MayDemote(int row, int entry, int target) =>
        IsSealed(row, entry)
        && _classes.MayBecome(row / _heads, target)
        && Ladder.Allows(_classes.Shape.Classes[PageClass(row, entry)], _classes.Shape.Classes[target], _pool.EncodingsOf(Slot(row, entry)));

    /// <summary>Classes that a page may be demoted to, bit c for class c.</summary>
    public int Targets(int row, int entry)
    {
        // A page that was kept in full precision holds numbers that no other class can.
        int targets = PageClass(row, entry) == KernelShape.Open ? 0 : _classes.Targets;
        for (int left = targets; left != 0; left &= left - 1)
        {
            int target = int.TrailingZeroCount(left);
            targets &= MayDemote(row, entry, target) ? -1 : ~(1 << target);
        }

        return targets;
    }

    /// <summary>Number of a row's first entries that a policy may drop: sealed, and followed by a whole page.</summary>
    public int DroppablePages(int row)
    {
        int end = Math.Min(FirstOpen, _classes.Seals.FirstUndroppable(Length));
        int count = Count(row);
        while (count > 0 && PageIndex(row, count - 1) >= end)
        {
            count--;
        }

        return count;
    }

    /// <summary>Bytes that dropping an entry frees: none while another sequence holds its page.</summary>
    public int FreedBy(int row, int entry) => _pool.IsHeldOnce(Slot(row, entry)) ? _classes.Shape.Classes[PageClass(row, entry)].Bytes : 0;

    /// <summary>Makes the sequence one of so many tokens, whose entries follow by <see cref="List"/> or are listed already.</summary>
    /// <param name="length">Tokens.</param>
    /// <param name="firstOpen">First page that is open.</param>
    public void Reach(int length, int firstOpen) => (Length, FirstOpen) = (length, firstOpen);

    /// <summary>Lists a page as the next of a row. The reference to it becomes the row's.</summary>
    public void List(int row, int page, int slot, int pageClass)
    {
        int entry = Count(row);
        Set(row, entry, slot, pageClass, page);
        SetCount(row, entry + 1);
        _listed[pageClass]++;
    }

    /// <summary>Lists another page in an entry's place, without a look at references.</summary>
    public void Relist(int row, int entry, int slot, int pageClass)
    {
        _listed[PageClass(row, entry)]--;
        _listed[pageClass]++;
        Set(row, entry, slot, pageClass, PageIndex(row, entry));
    }

    /// <summary>Takes the last entries out of a row, from a page index on, without a look at references.</summary>
    public void Unlist(int row, int firstPage)
    {
        int count = Count(row);
        while (count > 0 && PageIndex(row, count - 1) >= firstPage)
        {
            _listed[PageClass(row, --count)]--;
        }

        SetCount(row, count);
    }

    /// <summary>Lists a page that was written from an entry's, sealed, in the entry's place; it may be the page itself, where it lies.</summary>
    public void Swap(int row, int entry, int slot, int pageClass)
    {
        int before = Slot(row, entry);
        if (slot != before)
        {
            _pool.SetEncodings(slot, EncodingsAs(pageClass, row, entry));
            _pool.Release(before);
        }

        _pool.Seal(slot, pageClass);
        Relist(row, entry, slot, pageClass);
    }

    /// <summary>Lists a page that was merged from several in the place of the last of them; its live tokens are yet to be said.</summary>
    public void SwapMerged(int row, int entry, int slot, Encodings encodings)
    {
        int pageClass = PageClass(row, entry);
        _pool.SetEncodings(slot, encodings);
        _pool.Release(Slot(row, entry));
        _pool.Seal(slot, pageClass);
        Dead!.Kill(row, FirstPageOf(row, entry), PageIndex(row, entry));
        Relist(row, entry, slot, pageClass);
        _mergedLayers!.Add(row / _heads);
    }

    /// <summary>How often the keys and values of an entry's page will have been encoded with loss, once it is written in a class.</summary>
    public Encodings EncodingsAs(int pageClass, int row, int entry) =>
        _pool.EncodingsOf(Slot(row, entry)).After(_classes.Shape.Classes[PageClass(row, entry)], _classes.Shape.Classes[pageClass]);

    /// <summary>Shares all pages of another sequence's rows.</summary>
    public void ShareWith(PageTable other)
    {
        (Length, FirstOpen, _listed) = (other.Length, other.FirstOpen, other._listed);
        Dead?.CopyFrom(other.Dead!);
        _mergedLayers?.CopyFrom(other._mergedLayers!);
        for (int row = 0; row < Rows; row++)
        {
            int count = other.Count(row);
            for (int entry = 0; entry < count; entry++)
            {
                int slot = other.Slot(row, entry);
                _pool.AddReference(slot);
                Set(row, entry, slot, other.PageClass(row, entry), other.PageIndex(row, entry));
            }

            SetCount(row, count);
        }
    }

    /// <summary>Gives back every page that holds no token before the given length, and the leaves that listed them.</summary>
    public void CutTo(int length)
    {
        int pages = PagesFor(length);
        (Length, FirstOpen) = (length, Math.Min(FirstOpen, pages));
        for (int row = 0; row < Rows; row++)
        {
            int count = Count(row);
            while (count > 0 && PageIndex(row, count - 1) >= pages)
            {
                // Merged, it goes whole: its tokens before the cut are lost.
                Dead?.Kill(row, FirstPageOf(row, count - 1), PageIndex(row, count - 1));
                _listed[PageClass(row, count - 1)]--;
                _pool.Release(Slot(row, --count));
            }

            SetCount(row, count);
            Dead?.CutTo(row, length);
        }

        _leaves.CloseBeyond(LeavesFor(length), _pool);
    }

    /// <summary>Drops a row's flagged pages and closes the gaps.</summary>
    public void Drop(int row, ReadOnlySpan<bool> drops)
    {
        int count = Count(row);
        int kept = 0;
        for (int entry = 0; entry < count; entry++)
        {
            if (entry < drops.Length && drops[entry])
            {
                Dead?.Kill(row, FirstPageOf(row, entry), PageIndex(row, entry));
                _listed[PageClass(row, entry)]--;
                _pool.Release(Slot(row, entry));
                continue;
            }

            if (kept != entry)
            {
                Set(row, kept, Slot(row, entry), PageClass(row, entry), PageIndex(row, entry));
            }

            kept++;
        }

        SetCount(row, kept);
    }

    private int Tag(int row, int entry) => _leaves[_map.LeafOf(entry)][_map.LeafTags + _map.SlotInLeaf(row, entry)];

    private void SetCount(int row, int count) => _tier.WriteCount(Sequence, row, count);

    private void Set(int row, int entry, int slot, int pageClass, int page) => _tier.WriteEntry(Sequence, row, entry, slot, TableMap.Tag(pageClass, page));
}
