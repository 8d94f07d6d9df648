namespace KvCacheGpu;

/// <content>
/// Which slab to empty so that another size can have it. Pages that shrink or go lie scattered: what is free may be enough in bytes, and yet
/// no slab be free.
/// </content>
internal sealed unsafe partial class PagePool
{
    /// <summary>The slab that takes the least moving: all that lives in it can move, and the other slabs of its size have room. -1: none.</summary>
    /// <param name="movable">[slabs] slots of each that can move.</param>
    public int SlabToEmpty(ReadOnlySpan<int> movable)
    {
        (int best, long least) = (None, long.MaxValue);
        for (int slab = 0; slab < SlabCount; slab++)
        {
            int live = _liveInSlab[slab];
            if (live == 0 || movable[slab] != live)
            {
                continue;
            }

            int size = _size[slab];
            int room = ((_slabsInUse[size] - 1) * _slabs.SlotsPerSlab[size]) - (_live[size] - live);
            long units = (long)live * _slabs.Sizes[size];
            if (room >= live && units < least)
            {
                (best, least) = (slab, units);
            }
        }

        return best;
    }

    /// <summary>Takes a slot of a class in any slab of its size but one; <see cref="SlabToEmpty"/> has said that there is room.</summary>
    public int TakeBeside(int slab, int pageClass)
    {
        int size = _slabs.SizeOf(pageClass);
        bool isListed = _liveInSlab[slab] < _slabs.SlotsPerSlab[size];
        if (isListed)
        {
            _withRoom[size].Remove(slab);
        }

        Span<int> slot = stackalloc int[1];
        Take(pageClass, slot);
        if (isListed)
        {
            _withRoom[size].Push(slab);
        }

        _ledger.Add(Kernels.AllocationKind.Slot, (long)_slabs.Sizes[size] * Kernels.PageLayout.UnitBytes);
        return slot[0];
    }
}
