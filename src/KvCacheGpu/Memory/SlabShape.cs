using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// How the arena is cut: equal slabs, each holding slots of one size. Page classes of equal size share their slabs, and leaves of tables are one more kind of slot.
/// </summary>
internal sealed class SlabShape
{
    // By class; classes that there are not share the first one's.
    private readonly int[] _sizeOf = new int[SlotCounts.Kinds];

    /// <param name="shape">The page classes.</param>
    /// <param name="leafUnits">Units of a leaf.</param>
    /// <param name="slots">Slots of the largest size in a slab.</param>
    public SlabShape(KernelShape shape, int leafUnits, int slots)
    {
        int[] units = [.. shape.Classes.Select(layout => layout.Units)];
        int[] sizes = [.. units.Append(leafUnits).Distinct()];
        Sizes = sizes;
        for (int c = 0; c < units.Length; c++)
        {
            _sizeOf[c] = Array.IndexOf(sizes, units[c]);
        }

        _sizeOf[SlotCounts.Leaf] = Array.IndexOf(sizes, leafUnits);
        Units = checked(sizes.Max() * slots);
        SlotsPerSlab = [.. Sizes.Select(size => Units / size)];
        MostSlotsPerSlab = SlotsPerSlab.Max();
    }

    /// <summary>Distinct slot sizes, in units.</summary>
    public IReadOnlyList<int> Sizes { get; }

    /// <summary>Slots in a slab of each size.</summary>
    public IReadOnlyList<int> SlotsPerSlab { get; }

    /// <summary>The largest of <see cref="SlotsPerSlab"/>.</summary>
    public int MostSlotsPerSlab { get; }

    /// <summary>Units of a slab.</summary>
    public int Units { get; }

    /// <summary>Bytes of a slab.</summary>
    public long Bytes => (long)Units * PageLayout.UnitBytes;

    /// <summary>Bytes that a slab takes in the arena and in the pool's bookkeeping.</summary>
    public long BytesWithBookkeeping => Bytes + PagePool.BookkeepingBytes(this, 1);

    /// <summary>The most that slots of one size leave over of a slab, as a part of it.</summary>
    public double Waste => Sizes.Max(size => (double)(Units % size) / Units);

    /// <summary>The size of a kind's slots.</summary>
    public int SizeOf(int kind) => _sizeOf[kind];

    /// <summary>Slabs that hold so many slots of each kind, however they were taken and released before.</summary>
    /// <remarks>A slab is opened only when all of its size are full, so that past peaks bound the slabs in use.</remarks>
    public long SlabsFor(ReadOnlySpan<long> slots)
    {
        Span<long> bySize = stackalloc long[Sizes.Count];
        bySize.Clear();
        for (int c = 0; c < slots.Length; c++)
        {
            bySize[_sizeOf[c]] += slots[c];
        }

        long slabs = 0;
        for (int size = 0; size < Sizes.Count; size++)
        {
            slabs += (bySize[size] + SlotsPerSlab[size] - 1) / SlotsPerSlab[size];
        }

        return slabs;
    }

    /// <summary>Slots by size of slots by kind.</summary>
    public SlotCounts BySize(in SlotCounts slots)
    {
        SlotCounts sizes = default;
        for (int c = 0; c < _sizeOf.Length; c++)
        {
            sizes[_sizeOf[c]] += slots[c];
        }

        return sizes;
    }
}
