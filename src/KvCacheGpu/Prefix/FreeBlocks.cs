namespace KvCacheGpu;

/// <summary>
/// The blocks that no one holds, in the order in which they are taken: those without a hash first, then by priority, then the least
/// recently used. The order of these lists is the order of eviction; there is no other.
/// </summary>
internal sealed unsafe class FreeBlocks(IndexedBlock* blocks)
{
    /// <summary>The list of blocks that hold nothing worth keeping.</summary>
    public const int Unhashed = 0;

    private const int Lists = BlockIndex.HighestPriority + 2;

    private readonly int[] _first = new int[Lists];
    private readonly int[] _last = new int[Lists];
    private UInt128 _filled;

    /// <summary>Number of blocks in all lists.</summary>
    public int Count { get; private set; }

    /// <summary>The block to be taken next, or 0.</summary>
    public int First => FirstFrom(_filled);

    /// <summary>The block to be evicted next: the first that has a hash, or 0.</summary>
    public int FirstHashed => FirstFrom(_filled & ~UInt128.One);

    /// <summary>The list of hashed blocks of a priority.</summary>
    public static int ListOf(int priority) => priority + 1;

    public void PushFront(int block, int list)
    {
        int first = _first[list];
        (blocks[block].Previous, blocks[block].Next, blocks[block].List) = (0, first, list);
        _first[list] = block;
        if (first == 0)
        {
            _last[list] = block;
        }
        else
        {
            blocks[first].Previous = block;
        }

        Added(list);
    }

    public void PushBack(int block, int list)
    {
        int last = _last[list];
        (blocks[block].Previous, blocks[block].Next, blocks[block].List) = (last, 0, list);
        _last[list] = block;
        if (last == 0)
        {
            _first[list] = block;
        }
        else
        {
            blocks[last].Next = block;
        }

        Added(list);
    }

    public void Remove(int block)
    {
        (int before, int after, int list) = (blocks[block].Previous, blocks[block].Next, blocks[block].List);
        if (before == 0)
        {
            _first[list] = after;
        }
        else
        {
            blocks[before].Next = after;
        }

        if (after == 0)
        {
            _last[list] = before;
        }
        else
        {
            blocks[after].Previous = before;
        }

        Count--;
        if (_first[list] == 0)
        {
            _filled &= ~(UInt128.One << list);
        }
    }

    private int FirstFrom(UInt128 lists) => lists == 0 ? 0 : _first[(int)UInt128.TrailingZeroCount(lists)];

    private void Added(int list)
    {
        Count++;
        _filled |= UInt128.One << list;
    }
}
