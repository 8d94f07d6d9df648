using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// The arena's page slots: who holds them, which are free. Callers hold <see cref="Gate"/>.
/// </summary>
/// <remarks>
/// <code>
/// Per slab, int32 each:   size (index into SlabShape.Sizes, -1 free) | live slots | first free slot | previous | next
///                         | cached slots | owner of what the slab's bytes hold
/// Per slot, int32 each:   references, bit 30 set once the page is sealed, bit 29 while a block row names it
///                         | next free slot; of a live one its page class, and above 8 bits its encodings | owner
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
    private const int EncodingsShift = 8;
    private const int ClassMask = (1 << EncodingsShift) - 1;

    private readonly NativeInts _memory;
    private readonly MemoryLedger _ledger;
    private readonly SlabShape _slabs;
    private readonly int _firstUnit;
    private readonly int[] _live;
    private readonly int[] _slabsInUse;
    private readonly int[] _openPages = new int[KernelShape.MaxClasses];
    private readonly int[] _sealedPages = new int[KernelShape.MaxClasses];
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

    /// <summary>Bytes of live pages.</summary>
    public long LiveBytes
    {
        get
        {
            long units = 0;
            for (int size = 0; size < _live.Length; size++)
            {
                units += (long)_live[size] * _slabs.Sizes[size];
            }

            return units * PageLayout.UnitBytes;
        }
    }

    public static long BookkeepingBytes(SlabShape slabs, long slabCount) =>
        slabCount * (WordsPerSlab + (WordsPerSlot * (long)slabs.MostSlotsPerSlab)) * sizeof(int);

    /// <summary>Live pages of a class that were not sealed.</summary>
    public int OpenPages(int pageClass) => _openPages[pageClass];

    /// <summary>Live pages of a class that were.</summary>
    public int SealedPages(int pageClass) => _sealedPages[pageClass];

    /// <summary>Bytes that slots take.</summary>
    public long BytesOf(in SlotCounts slots)
    {
        SlotCounts sizes = _slabs.BySize(slots);
        long units = 0;
        for (int size = 0; size < _slabs.Sizes.Count; size++)
        {
            units += sizes[size] * (long)_slabs.Sizes[size];
        }

        return units * PageLayout.UnitBytes;
    }

    /// <summary>Whether slots of all classes are there together.</summary>
    public bool Holds(in SlotCounts slots)
    {
        SlotCounts sizes = _slabs.BySize(slots);
        int slabs = 0;
        for (int size = 0; size < _slabs.Sizes.Count; size++)
        {
            slabs += SlabsToOpen(size, sizes[size]);
        }

        return slabs <= _free.Count;
    }

    /// <summary>Takes slots, each with one reference, or takes none.</summary>
    /// <param name="counts">How many of each class.</param>
    /// <param name="slots">Receives them, class after class; as many as counted.</param>
    public bool TryTake(in SlotCounts counts, Span<int> slots)
    {
        if (!Holds(counts))
        {
            return false;
        }

        for (int c = 0; c < KernelShape.MaxClasses; c++)
        {
            if (counts[c] > 0)
            {
                Take(c, slots[..counts[c]]);
                slots = slots[counts[c]..];
            }
        }

        _ledger.Add(AllocationKind.Slot, BytesOf(counts));
        return true;
    }

    /// <summary>Takes slots that the caller knows to be there.</summary>
    /// <exception cref="KvOutOfMemoryException">E001: they are not; nothing was taken.</exception>
    public void TakeAll(in SlotCounts counts, Span<int> slots)
    {
        if (!TryTake(counts, slots))
        {
            throw new Refusal("page slots", BytesOf(counts) - LackingWithoutCached(counts), BytesOf(counts), "bytes").ToException();
        }
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
    /// <param name="slot">The slot.</param>
    /// <param name="pageClass">What the page is from now on: one of the slot's size.</param>
    public void Seal(int slot, int pageClass)
    {
        int index = Index(slot);
        if ((_references[index] & SealedBit) == 0)
        {
            SealedSlots++;
            _openPages[_nextFree[index] & ClassMask]--;
            _sealedPages[pageClass]++;
            _nextFree[index] = (_nextFree[index] & ~ClassMask) | pageClass;
            Volatile.Write(ref _references[index], _references[index] | SealedBit);
        }
    }

    /// <summary>Whether a page was sealed. Of a slot that the caller holds, also without the gate.</summary>
    public bool IsSealed(int slot) => (Volatile.Read(ref _references[Index(slot)]) & SealedBit) != 0;

    /// <summary>The class of a live page: that of its slot, or the one of the same size that it was sealed in. Of a sealed page that the caller holds, also without the gate.</summary>
    public int ClassOf(int slot) => _nextFree[Index(slot)] & ClassMask;

    /// <summary>What a live page went through.</summary>
    public Encodings EncodingsOf(int slot) => Encodings.Of(_nextFree[Index(slot)] >> EncodingsShift);

    /// <summary>Notes what a page went through that its holder has written from another.</summary>
    public void SetEncodings(int slot, Encodings encodings)
    {
        ref int state = ref _nextFree[Index(slot)];
        state = (state & ClassMask) | (encodings.Packed << EncodingsShift);
    }

    /// <summary>Slab of a slot.</summary>
    public int SlabOf(int slot) => (slot - _firstUnit) / _slabs.Units;

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
            _sealedPages[_nextFree[index] & ClassMask]--;
        }
        else
        {
            _openPages[_nextFree[index] & ClassMask]--;
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

    /// <summary>Gives its memory back. Slots that someone still holds, as a save does, are gone with the arena.</summary>
    public void Dispose()
    {
        _ledger.Add(AllocationKind.Slot, -LiveBytes);
        _memory.Dispose();
    }

    private int SlabsToOpen(int size, int slots)
    {
        int perSlab = _slabs.SlotsPerSlab[size];
        int room = (_slabsInUse[size] * perSlab) - _live[size];
        return slots <= room ? 0 : (slots - room + perSlab - 1) / perSlab;
    }

    private void Take(int pageClass, Span<int> slots)
    {
        int size = _slabs.SizeOf(pageClass);
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
            _nextFree[index] = pageClass;
            CountLive(slab, 1);
            if (_liveInSlab[slab] == _slabs.SlotsPerSlab[size])
            {
                _withRoom[size].Remove(slab);
            }

            slots[i] = _firstUnit + (slab * _slabs.Units) + ((index - (slab * _slabs.MostSlotsPerSlab)) * _slabs.Sizes[size]);
        }

        _live[size] += slots.Length;
        _openPages[pageClass] += slots.Length;
    }

    // An empty slab takes the size that is asked for: this is how memory moves from one class to another.
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
