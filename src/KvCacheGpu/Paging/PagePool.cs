using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// The arena's page slots: who holds them, which are free. Callers hold <see cref="Gate"/>.
/// </summary>
/// <remarks>
/// <code>
/// Per slab, int32 each:   size (index into SlabShape.Sizes, -1 free) | live slots | first free slot | previous | next
///                         | cached slots | owner of what the slab's bytes hold
/// Per slot, int32 each:   references, bit 30 set once the page is sealed, bit 29 while a block row names it | next free slot | owner
/// </code>
/// </remarks>
internal sealed unsafe partial class PagePool : IDisposable
{
    private const int None = -1;
    private const int SealedBit = 1 << 30;
    private const int IndexedBit = 1 << 29;
    private const int CountMask = IndexedBit - 1;
    private const int WordsPerSlab = 7;
    private const int WordsPerSlot = 3;

    private readonly NativeInts _memory;
    private readonly MemoryLedger _ledger;
    private readonly SlabShape _slabs;
    private readonly int _firstUnit;
    private readonly int[] _live;
    private readonly int[] _slabsInUse;
    private readonly SlabList[] _withRoom;
    private readonly int* _size;
    private readonly int* _liveInSlab;
    private readonly int* _firstFree;
    private readonly int* _references;
    private readonly int* _nextFree;
    private SlabList _free;

    public PagePool(SlabShape slabs, int firstUnit, int slabCount, MemoryLedger ledger)
    {
        (_slabs, _firstUnit, SlabCount, _ledger) = (slabs, firstUnit, slabCount, ledger);
        _memory = new NativeInts(BookkeepingBytes(slabs, slabCount) / sizeof(int), ledger);
        _size = _memory.Pointer;
        _liveInSlab = _size + slabCount;
        _firstFree = _liveInSlab + slabCount;
        int* previous = _firstFree + slabCount;
        int* next = previous + slabCount;
        _references = next + slabCount;
        long slots = (long)slabCount * slabs.MostSlotsPerSlab;
        _nextFree = _references + slots;
        _owner = _nextFree + slots;
        _cachedInSlab = (int*)(_owner + slots);
        _slabOwner = _cachedInSlab + slabCount;
        _cached = new int[slabs.Sizes.Count];
        _emptiable = new int[slabs.Sizes.Count];
        _free = new SlabList(previous, next);
        _withRoom = [.. slabs.Sizes.Select(_ => new SlabList(previous, next))];
        _live = new int[slabs.Sizes.Count];
        _slabsInUse = new int[slabs.Sizes.Count];
        for (int slab = slabCount - 1; slab >= 0; slab--)
        {
            _size[slab] = None;
            _free.Push(slab);
        }
    }

    /// <summary>Held around every call.</summary>
    public Lock Gate { get; } = new();

    /// <summary>Told of each slot and its units as it is freed, or null.</summary>
    public Action<int, int>? Freed { get; set; }

    /// <summary>Slabs of the arena.</summary>
    public int SlabCount { get; }

    /// <summary>Slabs of no size.</summary>
    public int FreeSlabs => _free.Count;

    /// <summary>Live slots that were sealed.</summary>
    public int SealedSlots { get; private set; }

    /// <summary>Live slots that were not.</summary>
    public int OpenSlots
    {
        get
        {
            int live = -SealedSlots;
            foreach (int count in _live)
            {
                live += count;
            }

            return live;
        }
    }

    public static long BookkeepingBytes(SlabShape slabs, long slabCount) =>
        slabCount * (WordsPerSlab + (WordsPerSlot * (long)slabs.MostSlotsPerSlab)) * sizeof(int);

    /// <summary>Bytes that slots of both classes take.</summary>
    public long BytesOf(SlotCounts slots) =>
        ((slots.Open * (long)_slabs.Sizes[_slabs.SizeOf(KernelShape.Open)])
        + (slots.Sealed * (long)_slabs.Sizes[_slabs.SizeOf(KernelShape.Sealed)])) * PageLayout.UnitBytes;

    /// <summary>Whether slots of both classes are there together.</summary>
    public bool Holds(SlotCounts slots) => _slabs.Sizes.Count == 1
        ? SlabsToOpen(0, slots.Open + slots.Sealed) <= _free.Count
        : SlabsToOpen(0, slots.Open) + SlabsToOpen(1, slots.Sealed) <= _free.Count;

    /// <summary>Takes slots, each with one reference, or takes none.</summary>
    public bool TryTake(Span<int> open, Span<int> sealedSlots)
    {
        if (!Holds(new SlotCounts(open.Length, sealedSlots.Length)))
        {
            return false;
        }

        Take(_slabs.SizeOf(KernelShape.Open), open);
        Take(_slabs.SizeOf(KernelShape.Sealed), sealedSlots);
        _ledger.Add(AllocationKind.Slot, BytesOf(new SlotCounts(open.Length, sealedSlots.Length)));
        return true;
    }

    /// <summary>References to a live slot.</summary>
    public int References(int slot) => _references[Index(slot)] & CountMask;

    /// <summary>Whether only its one holder may see the slot change: not shared, not sealed.</summary>
    public bool IsWritable(int slot) => _references[Index(slot)] == 1;

    public void AddReference(int slot)
    {
        int index = Index(slot);
        if (IsCached(index))
        {
            CountCached(SlabOf(slot), -1);
        }

        _references[index]++;
    }

    /// <summary>Marks a page that never changes again, whoever else holds it.</summary>
    public void Seal(int slot)
    {
        int* references = _references + Index(slot);
        if ((*references & SealedBit) == 0)
        {
            *references |= SealedBit;
            SealedSlots++;
        }
    }

    /// <summary>Gives back one reference; the last frees the slot.</summary>
    public void Release(int slot)
    {
        int slab = SlabOf(slot);
        int index = Index(slot);
        if ((--_references[index] & CountMask) > 0)
        {
            CountCached(slab, IsCached(index) ? 1 : 0);
            return;
        }

        if ((_references[index] & SealedBit) != 0)
        {
            SealedSlots--;
        }

        _references[index] = 0;
        int size = _size[slab];
        Freed?.Invoke(slot, _slabs.Sizes[size]);
        _ledger.Add(AllocationKind.Slot, -(long)_slabs.Sizes[size] * PageLayout.UnitBytes);
        _live[size]--;
        bool wasFull = _liveInSlab[slab] == _slabs.SlotsPerSlab[size];
        CountLive(slab, -1);
        _nextFree[index] = _firstFree[slab];
        _firstFree[slab] = index;
        if (_liveInSlab[slab] > 0)
        {
            if (wasFull)
            {
                _withRoom[size].Push(slab);
            }

            return;
        }

        if (!wasFull)
        {
            _withRoom[size].Remove(slab);
        }

        LeaveToNextOwner(slab);
        _size[slab] = None;
        _slabsInUse[size]--;
        _free.Push(slab);
    }

    public void Release(ReadOnlySpan<int> slots)
    {
        foreach (int slot in slots)
        {
            Release(slot);
        }
    }

    public void Dispose() => _memory.Dispose();

    private int SlabOf(int slot) => (slot - _firstUnit) / _slabs.Units;

    private int SlabsToOpen(int size, int slots)
    {
        int perSlab = _slabs.SlotsPerSlab[size];
        int room = (_slabsInUse[size] * perSlab) - _live[size];
        return slots <= room ? 0 : (slots - room + perSlab - 1) / perSlab;
    }

    private void Take(int size, Span<int> slots)
    {
        for (int i = 0; i < slots.Length; i++)
        {
            int slab = _withRoom[size].First;
            if (slab == None)
            {
                slab = Open(size);
            }

            int index = _firstFree[slab];
            _firstFree[slab] = _nextFree[index];
            _references[index] = 1;
            CountLive(slab, 1);
            if (_liveInSlab[slab] == _slabs.SlotsPerSlab[size])
            {
                _withRoom[size].Remove(slab);
            }

            slots[i] = _firstUnit + (slab * _slabs.Units) + ((index - (slab * _slabs.MostSlotsPerSlab)) * _slabs.Sizes[size]);
        }

        _live[size] += slots.Length;
    }

    // An empty slab takes the size that is asked for: this is how memory moves from one class to the other.
    private int Open(int size)
    {
        int slab = _free.First;
        _free.Remove(slab);
        _size[slab] = size;
        _slabsInUse[size]++;
        int first = slab * _slabs.MostSlotsPerSlab;
        int count = _slabs.SlotsPerSlab[size];
        for (int i = 0; i < count; i++)
        {
            _nextFree[first + i] = i + 1 < count ? first + i + 1 : None;
        }

        _firstFree[slab] = first;
        InheritOwner(slab);
        _withRoom[size].Push(slab);
        return slab;
    }

    private int Index(int slot)
    {
        int offset = slot - _firstUnit;
        int slab = offset / _slabs.Units;
        return (slab * _slabs.MostSlotsPerSlab) + ((offset % _slabs.Units) / _slabs.Sizes[_size[slab]]);
    }
}

/// <summary>Slots of both page classes.</summary>
internal readonly record struct SlotCounts(int Open, int Sealed)
{
    public static SlotCounts operator +(SlotCounts a, SlotCounts b) => new(a.Open + b.Open, a.Sealed + b.Sealed);
}
