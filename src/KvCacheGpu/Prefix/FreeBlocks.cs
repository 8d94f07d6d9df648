namespace KvCacheGpu;

/// <summary>
/// The rows that no one holds, in the order in which they are taken: those without a hash first, then by priority, then the least
/// recently used. The free list is the eviction order; there is no other.
/// </summary>
internal sealed unsafe class FreeRows(BlockRow* rows)
{
    /// <summary>The list of rows that hold nothing worth keeping.</summary>
    public const int Unhashed = 0;

    private const int Lists = BlockIndex.HighestPriority + 2;

    private readonly int[] _first = new int[Lists];
    private readonly int[] _last = new int[Lists];
    private UInt128 _filled;

    /// <summary>Rows in all lists.</summary>
    public int Count { get; private set; }

    /// <summary>The row to be taken next, or 0.</summary>
    public int First => FirstFrom(_filled);

    /// <summary>The row to be evicted next: the first that has a hash, or 0.</summary>
    public int FirstHashed => FirstFrom(_filled & ~UInt128.One);

    public static int ListOf(int priority) => priority + 1;

    public void PushFront(int row, int list)
    {
        int first = _first[list];
        (rows[row].Previous, rows[row].Next, rows[row].List) = (0, first, list);
        _first[list] = row;
        if (first == 0)
        {
            _last[list] = row;
        }
        else
        {
            rows[first].Previous = row;
        }

        Added(list);
    }

    public void PushBack(int row, int list)
    {
        int last = _last[list];
        (rows[row].Previous, rows[row].Next, rows[row].List) = (last, 0, list);
        _last[list] = row;
        if (last == 0)
        {
            _first[list] = row;
        }
        else
        {
            rows[last].Next = row;
        }

        Added(list);
    }

    public void Remove(int row)
    {
        (int before, int after, int list) = (rows[row].Previous, rows[row].Next, rows[row].List);
        if (before == 0)
        {
            _first[list] = after;
        }
        else
        {
            rows[before].Next = after;
        }

        if (after == 0)
        {
            _last[list] = before;
        }
        else
        {
            rows[after].Previous = before;
        }

        Count--;
        if (_first[list] == 0)
        {
            _filled &= ~(UInt128.One << list);
        }
    }

    /// <summary>All rows in the order in which they are taken.</summary>
    public int[] InOrder()
    {
        var order = new List<int>(Count);
        foreach (int first in _first)
        {
            for (int row = first; row != 0; row = rows[row].Next)
            {
                order.Add(row);
            }
        }

        return [.. order];
    }

    private int FirstFrom(UInt128 lists) => lists == 0 ? 0 : _first[(int)UInt128.TrailingZeroCount(lists)];

    private void Added(int list)
    {
        Count++;
        _filled |= UInt128.One << list;
    }
}
