using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>
/// Pages that block rows name. A page whose only reference is its row's is cached: live, and free for the asking. Counts are kept as
/// references change, so that a step knows what it would find without giving anything up.
/// </content>
internal sealed unsafe partial class PagePool
{
    private readonly int* _cachedInSlab;
    private readonly int[] _cached;
    private readonly int[] _emptiable;

    /// <summary>Bytes of cached pages.</summary>
    public long CachedBytes
    {
        get
        {
            long units = 0;
            for (int size = 0; size < _cached.Length; size++)
            {
                units += (long)_cached[size] * _slabs.Sizes[size];
            }

            return units * PageLayout.UnitBytes;
        }
    }

    /// <summary>Whether slots of all classes would be there together without any cached page.</summary>
    public bool HoldsWithoutCached(in SlotCounts slots)
    {
        SlotCounts sizes = _slabs.BySize(slots);
        int free = _free.Count;
        int needed = 0;
        for (int size = 0; size < _slabs.Sizes.Count; size++)
        {
            free += _emptiable[size];
            needed += SlabsToOpenWithoutCached(size, sizes[size]);
        }

        return needed <= free;
    }

    /// <summary>Bytes of those among the slots for which there would be no slab without any cached page: 0 where it holds them all.</summary>
    public long LackingWithoutCached(in SlotCounts slots)
    {
        SlotCounts sizes = _slabs.BySize(slots);
        int free = _free.Count;
        foreach (int slabs in _emptiable)
        {
            free += slabs;
        }

        long units = 0;
        for (int size = 0; size < _slabs.Sizes.Count; size++)
        {
            int open = SlabsToOpenWithoutCached(size, sizes[size]);
            int lacking = open <= free ? 0 : sizes[size] - RoomWithoutCached(size) - (free * _slabs.SlotsPerSlab[size]);
            units += (long)lacking * _slabs.Sizes[size];
            free -= Math.Min(open, free);
        }

        return units * PageLayout.UnitBytes;
    }

    /// <summary>Whether a block row names the slot.</summary>
    public bool IsIndexed(int slot) => (_references[Index(slot)] & IndexedBit) != 0;

    /// <summary>Whether one sequence alone holds a slot, so that its letting go makes room; a block row's reference gives way.</summary>
    public bool IsHeldOnce(int slot)
    {
        int references = _references[Index(slot)];
        return (references & CountMask) - ((references & IndexedBit) != 0 ? 1 : 0) == 1;
    }

    /// <summary>Adds the reference of a block row to a slot that a sequence holds and no row names.</summary>
    public void AddToIndex(int slot)
    {
        int* references = _references + Index(slot);
        *references = (*references + 1) | IndexedBit;
    }

    /// <summary>Gives back the reference of a block row.</summary>
    public void RemoveFromIndex(int slot)
    {
        int index = Index(slot);
        CountCached(SlabOf(slot), IsCached(index) ? -1 : 0);
        _references[index] &= ~IndexedBit;
        Release(slot);
    }

    private bool IsCached(int index) => (_references[index] & (IndexedBit | CountMask)) == (IndexedBit | 1);

    private int SlabsToOpenWithoutCached(int size, int slots)
    {
        int perSlab = _slabs.SlotsPerSlab[size];
        int room = RoomWithoutCached(size);
        return slots <= room ? 0 : (slots - room + perSlab - 1) / perSlab;
    }

    private int RoomWithoutCached(int size) =>
        ((_slabsInUse[size] - _emptiable[size]) * _slabs.SlotsPerSlab[size]) - (_live[size] - _cached[size]);

    private void CountCached(int slab, int change)
    {
        int before = Emptiable(slab);
        _cachedInSlab[slab] += change;
        _cached[_size[slab]] += change;
        _emptiable[_size[slab]] += Emptiable(slab) - before;
    }

    private void CountLive(int slab, int change)
    {
        int before = Emptiable(slab);
        _liveInSlab[slab] += change;
        _emptiable[_size[slab]] += Emptiable(slab) - before;
    }

    private int Emptiable(int slab) => _liveInSlab[slab] > 0 && _liveInSlab[slab] == _cachedInSlab[slab] ? 1 : 0;
}
