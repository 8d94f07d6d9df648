namespace KvCacheGpu.Import;

/// <summary>The stack of a pickle machine, with its marks. Values under the last mark cannot be reached until that mark is taken away.</summary>
internal sealed class PickleStack
{
    private readonly List<PickleValue> _values = [];
    private readonly List<int> _marks = [];

    /// <summary>Number of values.</summary>
    public int Count => _values.Count;

    /// <summary>Number of marks.</summary>
    public int Marks => _marks.Count;

    /// <summary>The byte of the file at which the opcode under way stands, for errors.</summary>
    public long At { get; set; }

    private int Floor => _marks.Count == 0 ? 0 : _marks[^1];

    public void Clear()
    {
        _values.Clear();
        _marks.Clear();
    }

    public void Push(PickleValue value) => _values.Add(value);

    public void Mark() => _marks.Add(_values.Count);

    /// <summary>The last value.</summary>
    /// <exception cref="ImportException">There is none above the last mark.</exception>
    public PickleValue Top() => _values.Count > Floor ? _values[^1] : throw ImportException.Corrupt("stack", At, "a value", "none");

    /// <summary>Takes the last value away.</summary>
    /// <exception cref="ImportException">There is none above the last mark.</exception>
    public PickleValue Pop()
    {
        PickleValue top = Top();
        _values.RemoveAt(_values.Count - 1);
        return top;
    }

    /// <summary>Takes the last mark away, and the values above it.</summary>
    /// <exception cref="ImportException">There is no mark.</exception>
    public PickleValue[] PopToMark()
    {
        if (_marks.Count == 0)
        {
            throw ImportException.Corrupt("mark", At, "a MARK before it", "none");
        }

        int mark = _marks[^1];
        _marks.RemoveAt(_marks.Count - 1);
        PickleValue[] items = [.. _values[mark..]];
        _values.RemoveRange(mark, items.Length);
        return items;
    }
}
