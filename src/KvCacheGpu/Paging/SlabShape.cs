using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// How the arena is cut: equal slabs, each holding slots of one size. Page classes of equal size share their slabs.
/// </summary>
internal sealed class SlabShape
{
    private const int MostSlots = 64;
    private const double TolerableWaste = 0.015;

    private readonly int[] _sizeOfClass;

    /// <param name="shape">The page classes.</param>
    /// <param name="bytes">About what all slabs together take.</param>
    public SlabShape(KernelShape shape, long bytes)
    {
        int[] units = [.. shape.Classes.Select(layout => layout.Units)];
        int[] sizes = [.. units.Distinct()];
        (Sizes, _sizeOfClass) = (sizes, [.. units.Select(u => Array.IndexOf(sizes, u))]);
        Units = UnitsOf(Sizes, Math.Max(1, bytes / PageLayout.UnitBytes));
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

    /// <summary>The size of a page class's slots.</summary>
    public int SizeOf(int pageClass) => _sizeOfClass[pageClass];

    /// <summary>Slabs that hold so many slots of each class, however they were taken and released before.</summary>
    /// <remarks>A slab is opened only when all of its size are full, so that past peaks bound the slabs in use.</remarks>
    public long SlabsFor(ReadOnlySpan<long> slots)
    {
        Span<long> bySize = stackalloc long[Sizes.Count];
        bySize.Clear();
        for (int c = 0; c < slots.Length; c++)
        {
            bySize[_sizeOfClass[c]] += slots[c];
        }

        long slabs = 0;
        for (int size = 0; size < Sizes.Count; size++)
        {
            slabs += (bySize[size] + SlotsPerSlab[size] - 1) / SlotsPerSlab[size];
        }

        return slabs;
    }

    /// <summary>Slots by size of slots by class.</summary>
    public SlotCounts BySize(in SlotCounts slots)
    {
        SlotCounts sizes = default;
        for (int c = 0; c < _sizeOfClass.Length; c++)
        {
            sizes[_sizeOfClass[c]] += slots[c];
        }

        return sizes;
    }

    // What slots leave over of a slab, and half a slab for each size, which is not full: small slabs lose less of a small cache, and change size sooner.
    private static int UnitsOf(IReadOnlyList<int> sizes, long allUnits)
    {
        int largest = sizes.Max();
        int best = largest;
        for (int slots = 1; slots <= MostSlots && Waste(best, sizes) > TolerableWaste; slots++)
        {
            int units = checked(largest * slots);
            best = Loss(units) < Loss(best) ? units : best;
        }

        return best;

        double Loss(int units) => Waste(units, sizes) + (sizes.Count * (double)units / (2 * allUnits));
    }

    private static double Waste(int units, IReadOnlyList<int> sizes) => sizes.Max(size => (double)(units % size) / units);
}
