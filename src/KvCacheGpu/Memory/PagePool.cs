using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// The pages and leaves that live in the arena: who holds them, what they are, which slots are free. Callers are inside of <see cref="Gate"/>.
/// </summary>
/// <remarks>
/// A slot is named by its first unit in the arena.
/// <code>
/// per slot, int32 each:   references, bit 30 set once the page is sealed, bit 29 while the prefix index names it
///                         | its page class or SlotCounts.Leaf, and above 8 bits its encodings
/// and what <see cref="Slabs"/> keeps
/// </code>
/// </remarks>
internal sealed unsafe class PagePool : IDisposable
{
    private const int SealedBit = 1 << 30;
    private const int IndexedBit = 1 << 29;
    private const int CountMask = IndexedBit - 1;
    private const int EncodingsShift = 8;
    private const int ClassMask = (1 << EncodingsShift) - 1;

    private readonly NativeInts _memory;
    private readonly MemoryLedger _ledger;
    private readonly SlabShape _shape;
    private readonly Slabs _slabs;
    private readonly int _firstUnit;
    private readonly int[] _openPages = new int[SlotCounts.Kinds];
    private readonly int[] _sealedPages = new int[SlotCounts.Kinds];
    private readonly int* _references;

    public PagePool(SlabShape shape, int firstUnit, int slabCount, MemoryLedger ledger)
    {
        (_shape, _firstUnit, _ledger) = (shape, firstUnit, ledger);
        _memory = new NativeInts(BookkeepingBytes(shape, slabCount) / sizeof(int), ledger);
        _references = _memory.Pointer;
        _slabs = new Slabs(shape, _references + ((long)slabCount * shape.MostSlotsPerSlab), slabCount);
    }

    /// <summary>Callers are inside of it.</summary>
    public Gate Gate { get; } = new(GateOrder.Pool);

    /// <summary>Told of each slot and its units as it is freed, or null.</summary>
    public Action<int, int>? Freed { get; set; }

    /// <summary>Slabs of the arena.</summary>
    public int SlabCount => _slabs.Count;

    /// <summary>Slabs that no size has.</summary>
    public int FreeSlabs => _slabs.Free;

    /// <summary>Live slots that were sealed.</summary>
    public int SealedSlots { get; private set; }

    /// <summary>Live pages that were not.</summary>
    public int OpenSlots => _slabs.LiveSlots - SealedSlots - Leaves;

    /// <summary>Live leaves of tables.</summary>
    public int Leaves => _openPages[SlotCounts.Leaf];

    /// <summary>Bytes of live pages and leaves.</summary>
    public long LiveBytes => _slabs.LiveBytes;

    /// <summary>Bytes of pages that only the prefix index names: live, and given up as soon as their slots are needed.</summary>
    public long CachedBytes => _slabs.Cached.Bytes;

    public static long BookkeepingBytes(SlabShape shape, long slabCount) => ((slabCount * shape.MostSlotsPerSlab) + Slabs.Words(shape, slabCount)) * sizeof(int);

    /// <summary>Live pages of a class that were not sealed.</summary>
    public int OpenPages(int pageClass) => _openPages[pageClass];

    /// <summary>Live pages of a class that were.</summary>
    public int SealedPages(int pageClass) => _sealedPages[pageClass];

    /// <summary>Counts live pages by who holds them. Takes time with all slots of the arena.</summary>
    public void CountPages(PageTally tally)
    {
        for (int index = 0, slots = SlabCount * _shape.MostSlotsPerSlab; index < slots; index++)
        {
            int references = _references[index];
            if ((references & CountMask) == 0)
            {
                continue;
            }

            int holders = (references & CountMask) - ((references & IndexedBit) != 0 ? 1 : 0);
            int kind = _slabs.StateOf(index) & ClassMask;
            if (kind != SlotCounts.Leaf)
            {
                (holders == 0 ? tally.Cached : holders > 1 ? tally.Shared : (references & SealedBit) != 0 ? tally.Sealed : tally.Open)[kind]++;
            }
        }
    }

    /// <summary>Bytes that slots take.</summary>
    public long BytesOf(in SlotCounts slots)
    {
        SlotCounts sizes = _shape.BySize(slots);
        long units = 0;
        for (int size = 0; size < _shape.Sizes.Count; size++)
        {
            units += sizes[size] * (long)_shape.Sizes[size];
        }

        return units * PageLayout.UnitBytes;
    }

    /// <summary>
    /// Bytes of those among the slots for which there would be no slab, even if every cached page were given up: 0 if all slots would be there together.
    /// </summary>
    public long LackingWithoutCached(in SlotCounts slots) => _slabs.LackingUnits(_shape.BySize(slots)) * PageLayout.UnitBytes;

    /// <summary>True if slots of all classes are there together.</summary>
    public bool Holds(in SlotCounts slots)
    {
        SlotCounts sizes = _shape.BySize(slots);
        int slabs = 0;
        for (int size = 0; size < _shape.Sizes.Count; size++)
        {
            slabs += _slabs.ToOpen(size, sizes[size]);
        }

        return slabs <= _slabs.Free;
    }

    /// <summary>Takes slots, each with one reference, that the caller knows to be there.</summary>
    /// <param name="counts">How many of each kind.</param>
    /// <param name="slots">Receives them, kind after kind; as many as counted.</param>
    /// <exception cref="KvOutOfMemoryException">E001: they are not there; nothing was taken.</exception>
    public void Take(in SlotCounts counts, Span<int> slots)
    {
        if (!Holds(counts))
        {
            throw new KvOutOfMemoryException(new KvShortage("a page", KvResource.SlabBytes, BytesOf(counts), BytesOf(counts) - LackingWithoutCached(counts)));
        }

        int next = 0;
        for (int c = 0; c < SlotCounts.Kinds; c++)
        {
            int size = counts[c] > 0 ? _shape.SizeOf(c) : 0;
            for (int i = 0; i < counts[c]; i++)
            {
                slots[next++] = Live(_slabs.Take(size), c);
            }
        }

        _ledger.Add(AllocationKind.Slot, BytesOf(counts));
    }

    /// <summary>Takes a slot of a class in any slab of its size but the given one; <see cref="RoomBeside"/> has said that there is room.</summary>
    public int TakeBeside(int slab, int pageClass)
    {
        _ledger.Add(AllocationKind.Slot, BytesOf(SlotCounts.Of(pageClass, 1)));
        return Live(_slabs.TakeBeside(slab), pageClass);
    }

    /// <summary>References to a live slot.</summary>
    public int References(int slot) => _references[Index(slot)] & CountMask;

    /// <summary>True if one holder alone may see the slot change: the page is neither shared nor sealed.</summary>
    public bool IsWritable(int slot) => _references[Index(slot)] == 1;

    public void AddReference(int slot)
    {
        int index = Index(slot);
        if (IsCached(index))
        {
            _slabs.CountCached(SlabOf(slot), -1);
        }

        _references[index]++;
    }

    /// <summary>True if the prefix index names the slot.</summary>
    public bool IsIndexed(int slot) => (_references[Index(slot)] & IndexedBit) != 0;

    /// <summary>True if one sequence alone holds a slot, so that its letting go makes room; the prefix index's own reference gives way.</summary>
    public bool IsHeldOnce(int slot)
    {
        int references = _references[Index(slot)];
        return (references & CountMask) - ((references & IndexedBit) != 0 ? 1 : 0) == 1;
    }

    /// <summary>Adds the prefix index's reference to a slot that a sequence holds and that the index does not name yet.</summary>
    public void AddToIndex(int slot)
    {
        int* references = _references + Index(slot);
        *references = (*references + 1) | IndexedBit;
    }

    /// <summary>Gives back the prefix index's reference.</summary>
    public void RemoveFromIndex(int slot)
    {
        int index = Index(slot);
        _slabs.CountCached(SlabOf(slot), IsCached(index) ? -1 : 0);
        _references[index] &= ~IndexedBit;
        Release(slot);
    }

    /// <summary>Marks a page that never changes again, whoever else holds it.</summary>
    /// <param name="slot">The slot.</param>
    /// <param name="pageClass">The page's class from now on: one of the slot's size.</param>
    public void Seal(int slot, int pageClass)
    {
        int index = Index(slot);
        if ((_references[index] & SealedBit) == 0)
        {
            ref int state = ref _slabs.StateOf(index);
            SealedSlots++;
            _openPages[state & ClassMask]--;
            _sealedPages[pageClass]++;
            state = (state & ~ClassMask) | pageClass;
            Volatile.Write(ref _references[index], _references[index] | SealedBit);
        }
    }

    /// <summary>True if a page was sealed. Of a slot that the caller holds, also without the gate.</summary>
    public bool IsSealed(int slot) => (Volatile.Read(ref _references[Index(slot)]) & SealedBit) != 0;

    /// <summary>The class of a live page: that of its slot, or the one of the same size that it was sealed in. Of a sealed page that the caller holds, also without the gate.</summary>
    public int ClassOf(int slot) => _slabs.StateOf(Index(slot)) & ClassMask;

    /// <summary>How often a live page's keys and values were encoded with loss.</summary>
    public Encodings EncodingsOf(int slot) => Encodings.Of(_slabs.StateOf(Index(slot)) >> EncodingsShift);

    /// <summary>Notes how often the keys and values of a page were encoded with loss; its holder has written it from another.</summary>
    public void SetEncodings(int slot, Encodings encodings)
    {
        ref int state = ref _slabs.StateOf(Index(slot));
        state = (state & ClassMask) | (encodings.Packed << EncodingsShift);
    }

    /// <summary>Bytes of a slab.</summary>
    public long SlabBytes => (long)_shape.Units * PageLayout.UnitBytes;

    /// <summary>Slab of a slot.</summary>
    public int SlabOf(int slot) => (slot - _firstUnit) / _shape.Units;

    /// <summary>Live slots of a slab.</summary>
    public int LiveIn(int slab) => _slabs.LiveIn(slab);

    /// <summary>Units of one slot of a slab that is in use.</summary>
    public int UnitsOf(int slab) => _slabs.UnitsOf(slab);

    /// <summary>Slots that are free in the other slabs of the same size.</summary>
    public int RoomBeside(int slab) => _slabs.RoomBeside(slab);

    /// <summary>Makes a live slot an owner's. See <see cref="SlotOwners.Claim"/>.</summary>
    public bool Claim(int slot, int owner) => _slabs.Owners.Claim(Index(slot), owner);

    /// <summary>Gives back one reference; the last frees the slot.</summary>
    public void Release(int slot)
    {
        int slab = SlabOf(slot);
        int index = Index(slot);
        if ((--_references[index] & CountMask) > 0)
        {
            _slabs.CountCached(slab, IsCached(index) ? 1 : 0);
            return;
        }

        int pageClass = _slabs.StateOf(index) & ClassMask;
        if ((_references[index] & SealedBit) != 0)
        {
            SealedSlots--;
            _sealedPages[pageClass]--;
        }
        else
        {
            _openPages[pageClass]--;
        }

        _references[index] = 0;
        int units = _slabs.UnitsOf(slab);
        Freed?.Invoke(slot, units);
        _ledger.Add(AllocationKind.Slot, -(long)units * PageLayout.UnitBytes);
        _slabs.Give(slab, index);
    }

    public void Release(ReadOnlySpan<int> slots)
    {
        foreach (int slot in slots)
        {
            Release(slot);
        }
    }

    /// <summary>Gives its memory back. Slots that someone still holds, as a save does, are gone with the arena.</summary>
    public void Dispose()
    {
        _ledger.Add(AllocationKind.Slot, -LiveBytes);
        _memory.Dispose();
    }

    // Live, and held by the prefix index alone.
    private bool IsCached(int index) => (_references[index] & (IndexedBit | CountMask)) == (IndexedBit | 1);

    private int Live(int index, int pageClass)
    {
        _references[index] = 1;
        _slabs.StateOf(index) = pageClass;
        _openPages[pageClass]++;
        (int slab, int inSlab) = Math.DivRem(index, _shape.MostSlotsPerSlab);
        return _firstUnit + (slab * _shape.Units) + (inSlab * _slabs.UnitsOf(slab));
    }

    private int Index(int slot)
    {
        (int slab, int unit) = Math.DivRem(slot - _firstUnit, _shape.Units);
        return (slab * _shape.MostSlotsPerSlab) + (unit / _slabs.UnitsOf(slab));
    }
}
