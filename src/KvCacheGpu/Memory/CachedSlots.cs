using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Counts the slots whose only reference is the prefix index's: live, and given up when room is needed. Kept as references change, so that a
/// step knows what it would find without giving anything up.
/// </summary>
/// <remarks>
/// <code>
/// int32[slabs] cached slots
/// </code>
/// </remarks>
internal sealed unsafe class CachedSlots(SlabShape slabs, int* memory)
{
    public const int WordsPerSlab = 1;

    private readonly int* _inSlab = memory;
    private readonly int[] _ofSize = new int[slabs.Sizes.Count];

    // Slabs in use whose live slots are all cached.
    private readonly int[] _emptiable = new int[slabs.Sizes.Count];

    public long Bytes
    {
        get
        {
            long units = 0;
            for (int size = 0; size < _ofSize.Length; size++)
            {
                units += (long)_ofSize[size] * slabs.Sizes[size];
            }

            return units * PageLayout.UnitBytes;
        }
    }

    /// <summary>Slabs that would be free if every cached page were given up.</summary>
    public int EmptiableSlabs
    {
        get
        {
            int count = 0;
            foreach (int slab in _emptiable)
            {
                count += slab;
            }

            return count;
        }
    }

    /// <summary>Slots of a size that would be free, in slabs that stay in use, if every cached page were given up.</summary>
    public int RoomWithoutCached(int size, int slabsInUse, int live) =>
        ((slabsInUse - _emptiable[size]) * slabs.SlotsPerSlab[size]) - (live - _ofSize[size]);

    /// <summary>Notes that a slab has more or fewer live or cached slots than before.</summary>
    public void Count(int slab, int size, int liveBefore, int live, int cachedChange)
    {
        int before = Emptiable(slab, liveBefore);
        _inSlab[slab] += cachedChange;
        _ofSize[size] += cachedChange;
        _emptiable[size] += Emptiable(slab, live) - before;
    }

    private int Emptiable(int slab, int live) => live > 0 && live == _inSlab[slab] ? 1 : 0;
}
