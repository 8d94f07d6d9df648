using System.Runtime.CompilerServices;

namespace KvCacheGpu;

/// <summary>
/// Which blocks of tokens exist, who holds them, and which can be hit: rows, not bytes. Callers hold a gate around every call.
/// </summary>
/// <remarks>
/// A row is held (references above 0) or in the free list, never both. Freed rows keep their hash and can be revived until they are taken
/// for something else, in the order of the free list: rows without a hash first, then the least recently used, a sequence's deepest
/// block before those it builds on. A hashed row is immutable. A call that fails changes nothing.
/// </remarks>
internal sealed unsafe partial class BlockIndex : IDisposable
{
    /// <summary>The priority of blocks for which nothing else was said.</summary>
    public const int DefaultPriority = 35;

    /// <summary>The highest priority; the lowest is 0.</summary>
    public const int HighestPriority = 100;

    private readonly NativeInts _memory;
    private readonly BlockRow* _rows;
    private readonly int* _tokens;
    private readonly FreeRows _free;
    private readonly RowBuckets _byHash;
    private readonly RowBuckets _byParent;
    private readonly bool _sharing;
    private readonly TimeProvider _time;
    private readonly Action<int>? _evicted;

    /// <summary>Makes an index of free rows.</summary>
    /// <param name="rows">Rows, row 0 counted, which is never taken.</param>
    /// <param name="pageTokens">Tokens of a whole block.</param>
    /// <param name="ledger">Told of the memory.</param>
    /// <param name="sharing">False to hit and publish nothing.</param>
    /// <param name="events">Whether to keep events until <see cref="TakeEvents"/>.</param>
    /// <param name="time">The clock that priorities decay by.</param>
    /// <param name="evicted">Told of each row that lost its hash.</param>
    public BlockIndex(
        int rows, int pageTokens, MemoryLedger ledger, bool sharing = true, bool events = false, TimeProvider? time = null, Action<int>? evicted = null)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(rows, 2);
        ArgumentOutOfRangeException.ThrowIfLessThan(pageTokens, 1);
        (Rows, PageTokens, _sharing, _time, _evicted) = (rows, pageTokens, sharing, time ?? TimeProvider.System, evicted);
        _events = events ? [] : null;
        _memory = new NativeInts(BookkeepingBytes(rows, pageTokens) / sizeof(int), ledger);
        int buckets = RowBuckets.CountFor(rows);
        _rows = (BlockRow*)_memory.Pointer;
        _tokens = (int*)(_rows + rows);
        int* heads = _tokens + ((long)rows * pageTokens);
        _byHash = new RowBuckets(heads, buckets, _rows, byParent: false);
        _byParent = new RowBuckets(heads + buckets, buckets, _rows, byParent: true);
        _free = new FreeRows(_rows);
        for (int row = 1; row < rows; row++)
        {
            _rows[row].Priority = DefaultPriority;
            _free.PushBack(row, FreeRows.Unhashed);
        }
    }

    /// <summary>Rows, the null row counted.</summary>
    public int Rows { get; }

    /// <summary>Tokens of a whole block.</summary>
    public int PageTokens { get; }

    /// <summary>Rows that no one holds.</summary>
    public int FreeCount => _free.Count;

    /// <summary>Tokens of hashed rows that someone holds.</summary>
    public long ProtectedTokens { get; private set; }

    /// <summary>Tokens of hashed rows that no one holds: they can be hit, and evicted.</summary>
    public long EvictableTokens { get; private set; }

    /// <summary>Tokens that can be hit.</summary>
    public long HashedTokens => ProtectedTokens + EvictableTokens;

    public static long BookkeepingBytes(int rows, int pageTokens) =>
        ((long)rows * (Unsafe.SizeOf<BlockRow>() + (pageTokens * sizeof(int)))) + (2L * RowBuckets.CountFor(rows) * sizeof(int));

    public int References(int row) => _rows[row].References;

    /// <summary>The row's hash; null where it has none.</summary>
    public BlockHash HashOf(int row) => _rows[row].Hash;

    /// <summary>The hash before the row's; null where it has none.</summary>
    public BlockHash ParentOf(int row) => _rows[row].Parent;

    /// <summary>The free rows in the order in which they are taken.</summary>
    public int[] FreeOrder()
    {
        Decay();
        return _free.InOrder();
    }

    /// <summary>Holds rows that were hit and takes new ones, or refuses and changes nothing.</summary>
    /// <param name="hits">Rows found by <see cref="Match"/>, each once; each gets a reference.</param>
    /// <param name="taken">Receives rows without a hash, with one reference each.</param>
    public bool TryAllocate(ReadOnlySpan<int> hits, Span<int> taken)
    {
        int revived = 0;
        foreach (int row in hits)
        {
            revived += _rows[row].References == 0 ? 1 : 0;
        }

        if (taken.Length > _free.Count - revived)
        {
            return false;
        }

        // Hits first: what is hit must not be taken for what is new.
        foreach (int row in hits)
        {
            Hold(row);
        }

        Decay();
        for (int i = 0; i < taken.Length; i++)
        {
            int row = _free.First;
            if (_rows[row].Tokens > 0)
            {
                Forget(row);
            }

            _free.Remove(row);
            (_rows[row].References, _rows[row].Priority, _rows[row].Milliseconds) = (1, DefaultPriority, 0);
            taken[i] = row;
        }

        return true;
    }

    /// <summary>Adds a reference; a free row is revived.</summary>
    public void Hold(int row)
    {
        if (_rows[row].References++ == 0)
        {
            _free.Remove(row);
            EvictableTokens -= _rows[row].Tokens;
            ProtectedTokens += _rows[row].Tokens;
        }
    }

    /// <summary>Gives back one reference to each row of a sequence, the first block's first; null rows are passed over.</summary>
    /// <exception cref="InvalidOperationException">A row has no reference to give back.</exception>
    public void Release(ReadOnlySpan<int> rows)
    {
        foreach (int row in rows)
        {
            if (row != 0 && _rows[row].References <= _rows[row].Pins)
            {
                throw new InvalidOperationException($"expected a row that a sequence holds, got row {row} with {_rows[row].References} references, {_rows[row].Pins} of them pins");
            }
        }

        ReleaseHeld(rows);
    }

    /// <summary>Makes rows hittable: they hold consecutive blocks and never change again.</summary>
    /// <param name="parent">Hash of the block before the first, or of the namespace.</param>
    /// <param name="hashes">The blocks' hashes, as <see cref="BlockHash.Chain"/> makes them.</param>
    /// <param name="ids">Their token ids; only the last block may hold fewer than a page.</param>
    /// <param name="rows">The rows, held and without a hash.</param>
    public void Publish(in BlockHash parent, ReadOnlySpan<BlockHash> hashes, ReadOnlySpan<int> ids, ReadOnlySpan<int> rows)
    {
        if (!_sharing || rows.IsEmpty)
        {
            return;
        }

        foreach (int row in rows)
        {
            if (_rows[row].References == 0 || _rows[row].Tokens > 0)
            {
                throw new InvalidOperationException($"expected a held row without a hash, got row {row} with {_rows[row].References} references and {_rows[row].Tokens} hashed tokens");
            }
        }

        for (int i = 0; i < rows.Length; i++)
        {
            int row = rows[i];
            ReadOnlySpan<int> block = ids[(i * PageTokens)..Math.Min(ids.Length, (i + 1) * PageTokens)];
            (_rows[row].Hash, _rows[row].Parent, _rows[row].Tokens) = (hashes[i], i == 0 ? parent : hashes[i - 1], block.Length);
            block.CopyTo(new Span<int>(_tokens + ((long)row * PageTokens), PageTokens));
            _byHash.Add(row);
            _byParent.Add(row);
            ProtectedTokens += block.Length;
        }

        _events?.Add(new PrefixEvent(PrefixEventKind.Stored, hashes.ToArray(), parent, ids.ToArray()));
    }

    /// <summary>Takes the hash of the free row that is next to go.</summary>
    /// <returns>The row, now the first of the free list; 0 where no free row has a hash.</returns>
    public int Evict()
    {
        Decay();
        int row = _free.FirstHashed;
        if (row != 0)
        {
            Discard(row);
        }

        return row;
    }

    /// <summary>Takes all hashes, if no row is held.</summary>
    /// <returns>False where a row is held; nothing has changed then.</returns>
    public bool TryReset()
    {
        if (_free.Count != Rows - 1)
        {
            return false;
        }

        for (int row = 1; row < Rows; row++)
        {
            if (_rows[row].Tokens > 0)
            {
                Clear(row);
            }

            _free.Remove(row);
            _free.PushBack(row, FreeRows.Unhashed);
        }

        _events?.Add(new PrefixEvent(PrefixEventKind.AllCleared, default, default, default));
        return true;
    }

    public void Dispose() => _memory.Dispose();

    private void ReleaseHeld(ReadOnlySpan<int> rows)
    {
        // Deepest first: a block without those before it cannot be hit, so that it must not outlive them.
        for (int i = rows.Length - 1; i >= 0; i--)
        {
            if (rows[i] != 0 && --_rows[rows[i]].References == 0 && _rows[rows[i]].Tokens > 0)
            {
                Shelve(rows[i]);
            }
        }

        foreach (int row in rows)
        {
            if (row != 0 && _rows[row].References == 0 && _rows[row].Tokens == 0)
            {
                _free.PushFront(row, FreeRows.Unhashed);
            }
        }
    }

    private void Discard(int row)
    {
        Forget(row);
        _free.Remove(row);
        _free.PushFront(row, FreeRows.Unhashed);
    }

    private void Forget(int row)
    {
        BlockHash hash = _rows[row].Hash;
        Clear(row);
        if (_events is not null && _byHash.First(hash) == 0)
        {
            _events.Add(new PrefixEvent(PrefixEventKind.Removed, new[] { hash }, default, default));
        }
    }

    private void Clear(int row)
    {
        _byHash.Remove(row);
        _byParent.Remove(row);
        EvictableTokens -= _rows[row].Tokens;
        (_rows[row].Hash, _rows[row].Parent, _rows[row].Tokens, _rows[row].Expires) = (default, default, 0, 0);
        _evicted?.Invoke(row);
    }
}
