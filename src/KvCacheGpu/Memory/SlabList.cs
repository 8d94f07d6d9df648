namespace KvCacheGpu;

/// <summary>
/// Slabs linked through shared native arrays: a slab is in one list at most, so that one pair of arrays serves all lists.
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
