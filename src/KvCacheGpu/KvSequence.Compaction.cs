using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>Sealed pages moved together, as they are, so that a slab is left for pages of another size.</content>
public sealed partial class KvSequence
{
    /// <summary>Empties one slab into others of its size. The sequence is the caller's: between steps, or inside of Commit.</summary>
    /// <returns>Whether a slab is free that was not.</returns>
    internal bool Compact()
    {
        int slab;
        using (var movable = new Pooled<int>(Cache.Pool.SlabCount))
        {
            movable.Span.Clear();
            lock (Cache.Pool.Gate)
            {
                for (int row = 0; row < Table.Rows; row++)
                {
                    int entries = Table.DroppablePages(row);
                    for (int entry = 0; entry < entries; entry++)
                    {
                        int slot = Table.Slot(row, entry);
                        movable.Span[Cache.Pool.SlabOf(slot)] += MayMove(slot) ? 1 : 0;
                    }
                }

                slab = Cache.Pool.SlabToEmpty(movable.Span);
            }
        }

        if (slab < 0)
        {
            return false;
        }

        int before = FreeSlabs();
        while (MoveOutOf(slab) > 0)
        {
        }

        return FreeSlabs() > before;
    }

    // As many pages as are moved at once, and as the budget has room for twice.
    private int MoveOutOf(int slab)
    {
        Span<PageDemotion> pages = stackalloc PageDemotion[DemotedAtOnce];
        Span<int> slots = stackalloc int[DemotedAtOnce];
        Span<PageMove> moves = stackalloc PageMove[DemotedAtOnce];
        Span<bool> kept = stackalloc bool[DemotedAtOnce];
        int count = 0;
        lock (Cache.Pool.Gate)
        {
            for (int row = 0; row < Table.Rows; row++)
            {
                int entries = Table.DroppablePages(row);
                for (int entry = 0; entry < entries && count < DemotedAtOnce; entry++)
                {
                    int pageClass = Table.PageClass(row, entry);
                    int slot = Table.Slot(row, entry);
                    if (Cache.Pool.SlabOf(slot) == slab && MayMove(slot) && Cache.HasBytesFor(pageClass))
                    {
                        pages[count] = new PageDemotion(row, Table.PageIndex(row, entry), pageClass);
                        slots[count++] = Cache.Pool.TakeBeside(slab, pageClass);
                    }
                }
            }
        }

        if (count > 0)
        {
            kept.Clear();
            WriteDemoted(pages[..count], slots[..count], moves[..count], kept[..count]);
            lock (Cache.Pool.Gate)
            {
                for (int i = 0; i < count; i++)
                {
                    Table.PublishDemoted(pages[i], slots[i], kept[i]);
                }
            }
        }

        return count;
    }

    private int FreeSlabs()
    {
        lock (Cache.Pool.Gate)
        {
            return Cache.Pool.FreeSlabs;
        }
    }

    // What others hold too, or a block row names, is listed elsewhere.
    private bool MayMove(int slot) => Cache.Pool.References(slot) == 1 && !Cache.Pool.IsIndexed(slot);
}
