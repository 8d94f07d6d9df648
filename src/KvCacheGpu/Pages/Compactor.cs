namespace KvCacheGpu;

/// <summary>
/// Moves a sequence's sealed pages together, as they are, so that a slab is left for pages of another size. Pages that shrink or go lie scattered: the
/// free slots may be enough in bytes, and yet no slab be free.
/// </summary>
internal sealed class Compactor(PagePool pool, Room room, PageWriter writer)
{
    private const int MovesAtOnce = 64;

    /// <summary>Empties one slab into others of its size. The sequence is the caller's: between steps, or inside of Commit.</summary>
    /// <returns>True if a slab is free that was not.</returns>
    public bool Compact(PageTable table)
    {
        int slab;
        using (var movable = new Pooled<int>(pool.SlabCount))
        {
            movable.Span.Clear();
            using (pool.Gate.Enter())
            {
                CountMovable(table, movable.Span);
                slab = SlabToEmpty(movable.Span);
            }
        }

        if (slab < 0)
        {
            return false;
        }

        int before = FreeSlabs();
        while (MoveOutOf(table, slab) > 0)
        {
        }

        return FreeSlabs() > before;
    }

    private void CountMovable(PageTable table, Span<int> movable)
    {
        for (int row = 0; row < table.Rows; row++)
        {
            int entries = table.DroppablePages(row);
            for (int entry = 0; entry < entries; entry++)
            {
                int slot = table.Slot(row, entry);
                movable[pool.SlabOf(slot)] += MayMove(slot) ? 1 : 0;
            }
        }
    }

    // The one that takes the least moving: all that lives in it can move, and the other slabs of its size have room. -1: none.
    private int SlabToEmpty(ReadOnlySpan<int> movable)
    {
        (int best, long least) = (-1, long.MaxValue);
        for (int slab = 0; slab < movable.Length; slab++)
        {
            int live = pool.LiveIn(slab);
            if (live == 0 || movable[slab] != live)
            {
                continue;
            }

            long units = (long)live * pool.UnitsOf(slab);
            if (pool.RoomBeside(slab) >= live && units < least)
            {
                (best, least) = (slab, units);
            }
        }

        return best;
    }

    // As many pages as are moved at once, and as the budget has room for twice.
    private int MoveOutOf(PageTable table, int slab)
    {
        Span<PageChange> pages = stackalloc PageChange[MovesAtOnce];
        Span<int> slots = stackalloc int[MovesAtOnce];
        int count = 0;
        using (pool.Gate.Enter())
        {
            for (int row = 0; row < table.Rows; row++)
            {
                int entries = table.DroppablePages(row);
                for (int entry = 0; entry < entries && count < MovesAtOnce; entry++)
                {
                    int slot = table.Slot(row, entry);
                    int pageClass = table.PageClass(row, entry);
                    if (pool.SlabOf(slot) == slab && MayMove(slot) && room.TakeBeside(slab, pageClass) is var target && target > 0)
                    {
                        pages[count] = new PageChange(row, table.PageIndex(row, entry), pageClass);
                        slots[count++] = target;
                    }
                }
            }
        }

        if (count > 0)
        {
            Move(table, pages[..count], slots[..count]);
        }

        return count;
    }

    private void Move(PageTable table, ReadOnlySpan<PageChange> pages, ReadOnlySpan<int> slots)
    {
        bool written = false;
        try
        {
            writer.Move(table, pages, slots);
            written = true;
        }
        finally
        {
            using (pool.Gate.Enter())
            {
                for (int i = 0; i < pages.Length; i++)
                {
                    if (written)
                    {
                        table.Swap(pages[i].Row, table.EntryOf(pages[i].Row, pages[i].Page), slots[i], pages[i].Target);
                    }
                    else
                    {
                        pool.Release(slots[i]);
                    }
                }
            }
        }
    }

    private int FreeSlabs()
    {
        using (pool.Gate.Enter())
        {
            return pool.FreeSlabs;
        }
    }

    // A page that others hold too, or that the prefix index names, is listed elsewhere.
    private bool MayMove(int slot) => pool.References(slot) == 1 && !pool.IsIndexed(slot);
}
