using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>The rows' part in merging: pages that hold the best tokens of several.</content>
internal sealed unsafe partial class PageTable
{
    private LayerSet? _mergedLayers;

    /// <summary>Tokens that are gone, where pages are merged; else null.</summary>
    public DeadTokens? Dead
    {
        get;
        init
        {
            field = value;
            _mergedLayers = value is null ? null : new LayerSet(Rows / _heads);
        }
    }

    /// <summary>Whether rows of a layer list, or listed, merged pages.</summary>
    public bool HasMerged(int layer) => _mergedLayers?[layer] == true;

    /// <summary>Whether an entry's page holds other tokens than those of its page index.</summary>
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
    /// <returns>False where it is gone.</returns>
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

    /// <summary>
    /// What a page would have gone through that was merged of some entries, or null where they may not be: of other classes, kept open, or
    /// encoded too often. The gate is held.
    /// </summary>
    public Encodings? EncodingsOfMerged(int row, int firstEntry, int lastEntry)
    {
        int pageClass = PageClass(row, lastEntry);
        (int key, int value) = (0, 0);
        for (int entry = firstEntry; entry <= lastEntry; entry++)
        {
            Encodings before = _pool.EncodingsOf(Slot(row, entry));
            (key, value) = (Math.Max(key, before.Key), Math.Max(value, before.Value));
            if (PageClass(row, entry) != pageClass || pageClass == KernelShape.Open)
            {
                return null;
            }
        }

        Encodings after = new Encodings(key, value).After(_classes.Shape.Classes[KernelShape.Open], _classes.Shape.Classes[pageClass]);
        return after.Key <= Ladder.MostEncodings && after.Value <= Ladder.MostEncodings ? after : null;
    }

    /// <summary>The move that seals what was written into a slot just taken as the page of an entry.</summary>
    public PageMove MergeOf(int row, int entry, int openSlot, int slot)
    {
        int pageClass = PageClass(row, entry);
        _ = Fresh(openSlot, KernelShape.Open);
        if (slot != openSlot)
        {
            _ = Fresh(slot, pageClass);
        }

        return new PageMove(
            openSlot, KernelShape.Open, slot, pageClass, _pageTokens, WritesSquares ? ScoreWord(row, PageIndex(row, entry)) : 0);
    }

    /// <summary>Lists a merged page in place of an entry's; its live tokens are yet to be said. The gate is held.</summary>
    public void PublishMerged(int row, int entry, int slot, Encodings encodings)
    {
        int pageClass = PageClass(row, entry);
        _pool.SetEncodings(slot, encodings);
        _pool.Release(Slot(row, entry));
        _pool.Seal(slot, pageClass);
        Dead!.Kill(row, FirstPageOf(row, entry), PageIndex(row, entry));
        Set(row, entry, slot, TableMap.Tag(pageClass, PageIndex(row, entry)));
        _mergedLayers!.Add(row / _heads);
    }

    private void ShareDead(PageTable other)
    {
        Dead?.CopyFrom(other.Dead!);
        _mergedLayers?.CopyFrom(other._mergedLayers!);
    }
}
