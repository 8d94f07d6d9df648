namespace KvCacheGpu;

/// <content>What stays longer: pins, priorities and their decay.</content>
internal sealed unsafe partial class BlockIndex
{
    private const int MostExpiringPerRow = 4;

    private readonly PriorityQueue<int, long> _expiring = new();

    /// <summary>Protects rows from eviction until <see cref="Unpin"/>; pins count.</summary>
    public void Pin(ReadOnlySpan<int> rows)
    {
        foreach (int row in rows)
        {
            Hold(row);
            _rows[row].Pins++;
        }
    }

    /// <summary>Takes back one pin of each row.</summary>
    /// <exception cref="InvalidOperationException">A row has no pin; nothing has changed.</exception>
    public void Unpin(ReadOnlySpan<int> rows)
    {
        foreach (int row in rows)
        {
            if (_rows[row].Pins == 0)
            {
                throw new InvalidOperationException($"expected a pinned row, got row {row} without a pin");
            }
        }

        foreach (int row in rows)
        {
            _rows[row].Pins--;
        }

        ReleaseHeld(rows);
    }

    /// <summary>Sets how a held row ranks once no one holds it.</summary>
    /// <param name="row">A held row.</param>
    /// <param name="priority">0..100.</param>
    /// <param name="milliseconds">How long, counted from the last release; 0 for ever.</param>
    public void SetRetention(int row, int priority, int milliseconds = 0) =>
        (_rows[row].Priority, _rows[row].Milliseconds) = (priority, milliseconds);

    /// <summary>The row's priority now.</summary>
    public int PriorityOf(int row)
    {
        Decay();
        return _rows[row].Priority;
    }

    /// <summary>Whether a row is worth a place in the next tier when it is evicted; below the default priority it is dropped.</summary>
    public bool IsWorthOffloading(int row) => PriorityOf(row) >= DefaultPriority;

    private void Shelve(int row)
    {
        ProtectedTokens -= _rows[row].Tokens;
        EvictableTokens += _rows[row].Tokens;
        _free.PushBack(row, FreeRows.ListOf(_rows[row].Priority));
        _rows[row].Expires = 0;
        if (_rows[row].Milliseconds > 0)
        {
            _rows[row].Expires = Now() + _rows[row].Milliseconds;
            _expiring.Enqueue(row, _rows[row].Expires);
            if (_expiring.Count > MostExpiringPerRow * Rows)
            {
                KeepCurrentExpiries();
            }
        }
    }

    // Entries of rows that were revived or taken since are found out by their time, instead of being searched for.
    private void Decay()
    {
        long now = _expiring.Count == 0 ? 0 : Now();
        while (_expiring.TryPeek(out int row, out long expires) && expires <= now)
        {
            _expiring.Dequeue();
            if (_rows[row].References == 0 && _rows[row].Expires == expires)
            {
                _free.Remove(row);
                (_rows[row].Priority, _rows[row].Milliseconds, _rows[row].Expires) = (DefaultPriority, 0, 0);
                _free.PushBack(row, FreeRows.ListOf(DefaultPriority));
            }
        }
    }

    // Rows that are hit again and again leave an entry each time.
    private void KeepCurrentExpiries()
    {
        _expiring.Clear();
        for (int row = 1; row < Rows; row++)
        {
            if (_rows[row].References == 0 && _rows[row].Expires > 0)
            {
                _expiring.Enqueue(row, _rows[row].Expires);
            }
        }
    }

    private long Now() => (long)(_time.GetTimestamp() * 1000.0 / _time.TimestampFrequency);
}
