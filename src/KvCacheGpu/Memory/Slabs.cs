using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// Which slab of the arena is cut into slots of which size, and which slots are free. A slab whose last slot is freed can take another size: this
/// is how memory moves from one page class to another.
/// </summary>
/// <remarks>
/// <code>
/// per slab, int32 each:   size (index into SlabShape.Sizes, -1: free) | live slots | first free slot | previous | next
/// per slot, int32:        next free slot; of a live slot the pool's: <see cref="StateOf"/>
/// </code>
/// </remarks>
internal sealed unsafe class Slabs
{
    private const int None = -1;
    private const int WordsPerSlab = 5;

    private readonly SlabShape _shape;
    private readonly SlotOwners _owners;
    private readonly CachedSlots _cached;
    private readonly int[] _live;
    private readonly int[] _inUse;
    private readonly SlabList[] _withRoom;
    private readonly int* _size;
    private readonly int* _liveIn;
    private readonly int* _firstFree;
    private readonly int* _nextFree;
    private SlabList _free;

    /// <param name="shape">How slabs are cut.</param>
    /// <param name="memory">Zeroed, of so many <see cref="Words"/>.</param>
    /// <param name="count">Slabs, all free.</param>
    public Slabs(SlabShape shape, int* memory, int count)
    {
        (_shape, Count) = (shape, count);
        _size = memory;
        _liveIn = _size + count;
        _firstFree = _liveIn + count;
        int* previous = _firstFree + count;
        int* next = previous + count;
        _nextFree = next + count;
        int* rest = _nextFree + ((long)count * shape.MostSlotsPerSlab);
        _owners = new SlotOwners(shape, rest, count);
        _cached = new CachedSlots(shape, rest + SlotOwners.Words(shape, count));
        _free = new SlabList(previous, next);
        _withRoom = [.. shape.Sizes.Select(_ => new SlabList(previous, next))];
        _live = new int[shape.Sizes.Count];
        _inUse = new int[shape.Sizes.Count];
        for (int slab = count - 1; slab >= 0; slab--)
        {
            _size[slab] = None;
            _free.Push(slab);
        }
    }

    /// <summary>Slabs, free ones counted.</summary>
    public int Count { get; }

    /// <summary>Slabs that no size has.</summary>
    public int Free => _free.Count;

    public SlotOwners Owners => _owners;

    public CachedSlots Cached => _cached;

    /// <summary>Live slots.</summary>
    public int LiveSlots
    {
        get
        {
            int live = 0;
            foreach (int count in _live)
            {
                live += count;
            }

            return live;
        }
    }

    /// <summary>Bytes of live slots.</summary>
    public long LiveBytes
    {
        get
        {
            long units = 0;
            for (int size = 0; size < _live.Length; size++)
            {
                units += (long)_live[size] * _shape.Sizes[size];
            }

            return units * PageLayout.UnitBytes;
        }
    }

    public static long Words(SlabShape shape, long count) =>
        (count * (WordsPerSlab + (long)shape.MostSlotsPerSlab)) + SlotOwners.Words(shape, count) + (count * CachedSlots.WordsPerSlab);

    /// <summary>Live slots of a slab.</summary>
    public int LiveIn(int slab) => _liveIn[slab];

    /// <summary>Units of one slot of a slab that is in use.</summary>
    public int UnitsOf(int slab) => _shape.Sizes[_size[slab]];

    /// <summary>Slots that are free in the other slabs of the same size.</summary>
    public int RoomBeside(int slab)
    {
        int size = _size[slab];
        return ((_inUse[size] - 1) * _shape.SlotsPerSlab[size]) - (_live[size] - _liveIn[slab]);
    }

    /// <summary>Slabs that slots of a size would take of the free ones.</summary>
    public int ToOpen(int size, int slots) => SlabsFor(slots - ((_inUse[size] * _shape.SlotsPerSlab[size]) - _live[size]), size);

    /// <summary>
    /// The fewest units that have to be freed, so that there are slabs for all slots by size once every cached page is given up; 0 if there are. Slots of any
    /// size may be those that find no slab: it is told of those that lack least, since freeing few of them may be enough.
    /// </summary>
    public long LackingUnits(in SlotCounts slotsBySize)
    {
        int lacking = -(_free.Count + _cached.EmptiableSlabs);
        Span<int> missing = stackalloc int[_shape.Sizes.Count];
        for (int size = 0; size < _shape.Sizes.Count; size++)
        {
            missing[size] = Math.Max(0, slotsBySize[size] - _cached.RoomWithoutCached(size, _inUse[size], _live[size]));
            lacking += SlabsFor(missing[size], size);
        }

        long units = 0;
        while (lacking > 0)
        {
            (int best, int slots, long least) = (-1, 0, long.MaxValue);
            for (int size = 0; size < _shape.Sizes.Count; size++)
            {
                // The last slab of a size may be taken by few slots; those before it are full.
                int perSlab = _shape.SlotsPerSlab[size];
                int last = missing[size] % perSlab == 0 ? Math.Min(missing[size], perSlab) : missing[size] % perSlab;
                long cost = (long)last * _shape.Sizes[size];
                (best, slots, least) = last > 0 && cost < least ? (size, last, cost) : (best, slots, least);
            }

            bool isFull = slots == _shape.SlotsPerSlab[best];
            int slabs = isFull ? Math.Min(lacking, missing[best] / slots) : 1;
            missing[best] -= slabs * slots;
            units += slabs * least;
            lacking -= slabs;
        }

        return units;
    }

    /// <summary>The pool's word of a live slot.</summary>
    public ref int StateOf(int index) => ref _nextFree[index];

    /// <summary>Takes a slot of a size; there is one, as <see cref="ToOpen"/> has said.</summary>
    /// <returns>Its place in arrays of all slots.</returns>
    public int Take(int size)
    {
        int slab = _withRoom[size].First;
        if (slab == None)
        {
            slab = Open(size);
        }

        int index = _firstFree[slab];
        _firstFree[slab] = _nextFree[index];
        CountLive(slab, 1);
        if (_liveIn[slab] == _shape.SlotsPerSlab[size])
        {
            _withRoom[size].Remove(slab);
        }

        return index;
    }

    /// <summary>Takes a slot of a slab's size in any other slab; <see cref="RoomBeside"/> has said that there is room.</summary>
    public int TakeBeside(int slab)
    {
        int size = _size[slab];
        bool isListed = _liveIn[slab] < _shape.SlotsPerSlab[size];
        if (isListed)
        {
            _withRoom[size].Remove(slab);
        }

        int index = Take(size);
        if (isListed)
        {
            _withRoom[size].Push(slab);
        }

        return index;
    }

    /// <summary>Frees a live slot.</summary>
    public void Give(int slab, int index)
    {
        int size = _size[slab];
        bool wasFull = _liveIn[slab] == _shape.SlotsPerSlab[size];
        CountLive(slab, -1);
        _nextFree[index] = _firstFree[slab];
        _firstFree[slab] = index;
        if (_liveIn[slab] > 0)
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

        _owners.LeaveToNext(slab, _shape.SlotsPerSlab[size]);
        _size[slab] = None;
        _inUse[size]--;
        _free.Push(slab);
    }

    /// <summary>Notes that a slab has one cached slot more or less than before, or as many.</summary>
    public void CountCached(int slab, int change) => _cached.Count(slab, _size[slab], _liveIn[slab], _liveIn[slab], change);

    private void CountLive(int slab, int change)
    {
        int before = _liveIn[slab];
        _liveIn[slab] += change;
        _live[_size[slab]] += change;
        _cached.Count(slab, _size[slab], before, _liveIn[slab], 0);
    }

    private int SlabsFor(int slots, int size) => slots <= 0 ? 0 : (slots + _shape.SlotsPerSlab[size] - 1) / _shape.SlotsPerSlab[size];

    private int Open(int size)
    {
        int slab = _free.First;
        _free.Remove(slab);
        _size[slab] = size;
        _inUse[size]++;
        int first = slab * _shape.MostSlotsPerSlab;
        int count = _shape.SlotsPerSlab[size];
        for (int i = 0; i < count; i++)
        {
            _nextFree[first + i] = i + 1 < count ? first + i + 1 : None;
        }

        _firstFree[slab] = first;
        _owners.Inherit(slab, count);
        _withRoom[size].Push(slab);
        return slab;
    }
}
/// <summary>
/// Slabs linked through native arrays that all lists share: a slab is in one list at most.
/// </summary>
internal unsafe struct SlabList(int* previous, int* next)
{
    private const int None = -1;

    /// <summary>The first slab, or -1.</summary>
    public int First { get; private set; } = None;

    /// <summary>Slabs in the list.</summary>
    public int Count { get; private set; }

    public void Push(int slab)
    {
        previous[slab] = None;
        next[slab] = First;
        if (First != None)
        {
            previous[First] = slab;
        }

        First = slab;
        Count++;
    }

    public void Remove(int slab)
    {
        (int before, int after) = (previous[slab], next[slab]);
        if (before == None)
        {
            First = after;
        }
        else
        {
            next[before] = after;
        }

        if (after != None)
        {
            previous[after] = before;
        }

        Count--;
    }
}
