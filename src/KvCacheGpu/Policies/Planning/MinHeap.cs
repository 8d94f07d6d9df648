namespace KvCacheGpu;

/// <summary>A binary heap on borrowed memory, with the least key on top; of equal keys the one with the lower tie.</summary>
internal ref struct MinHeap(Span<double> keys, Span<long> ties)
{
    private readonly Span<double> _keys = keys;
    private readonly Span<long> _ties = ties;

    public int Count { get; private set; }

    public readonly double Key => _keys[0];

    public readonly long Tie => _ties[0];

    public void Push(double key, long tie)
    {
        int at = Count++;
        while (at > 0 && IsLess(key, tie, (at - 1) / 2))
        {
            Move((at - 1) / 2, at);
            at = (at - 1) / 2;
        }

        (_keys[at], _ties[at]) = (key, tie);
    }

    public void Pop()
    {
        Count--;
        if (Count > 0)
        {
            Sink(_keys[Count], _ties[Count]);
        }
    }

    /// <summary>Pops the top and pushes a key, in one pass.</summary>
    public readonly void Replace(double key, long tie) => Sink(key, tie);

    private readonly void Sink(double key, long tie)
    {
        int at = 0;
        for (int child = 1; child < Count; child = (2 * at) + 1)
        {
            if (child + 1 < Count && IsLess(_keys[child + 1], _ties[child + 1], child))
            {
                child++;
            }

            if (IsLess(key, tie, child))
            {
                break;
            }

            Move(child, at);
            at = child;
        }

        (_keys[at], _ties[at]) = (key, tie);
    }

    private readonly bool IsLess(double key, long tie, int other) => key < _keys[other] || (key == _keys[other] && tie < _ties[other]);

    private readonly void Move(int from, int to) => (_keys[to], _ties[to]) = (_keys[from], _ties[from]);
}
