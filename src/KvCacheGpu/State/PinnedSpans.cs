namespace KvCacheGpu;

/// <summary>Positions that must stay: disjoint spans, ascending.</summary>
internal sealed class PinnedSpans
{
    private readonly List<(int Start, int End)> _spans = [];

    public IReadOnlyList<(int Start, int End)> Spans => _spans;

    public void CopyFrom(PinnedSpans other)
    {
        _spans.Clear();
        _spans.AddRange(other._spans);
    }

    public void Add(int start, int end)
    {
        for (int i = _spans.Count - 1; i >= 0; i--)
        {
            if (_spans[i].Start <= end && start <= _spans[i].End)
            {
                (start, end) = (Math.Min(start, _spans[i].Start), Math.Max(end, _spans[i].End));
                _spans.RemoveAt(i);
            }
        }

        Insert(start, end);
    }

    public void Remove(int start, int end)
    {
        for (int i = _spans.Count - 1; i >= 0; i--)
        {
            (int from, int to) = _spans[i];
            if (from < end && start < to)
            {
                _spans.RemoveAt(i);
                Insert(end, to);
                Insert(from, start);
            }
        }
    }

    public bool Touches(long start, long end)
    {
        foreach ((int from, int to) in _spans)
        {
            if (from < end && start < to)
            {
                return true;
            }
        }

        return false;
    }

    private void Insert(int start, int end)
    {
        if (start < end)
        {
            int at = _spans.FindIndex(s => s.Start > start);
            _spans.Insert(at < 0 ? _spans.Count : at, (start, end));
        }
    }
}
