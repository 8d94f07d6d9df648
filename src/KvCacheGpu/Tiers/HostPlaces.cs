namespace KvCacheGpu;

/// <summary>A block and its place, by number.</summary>
/// <param name="Key">The block.</param>
/// <param name="Number">The place, from 0.</param>
internal readonly record struct HostPlace(BlockHash Key, int Number);

/// <summary>
/// Which blocks have which places in host memory, without the memory: bytes are copied while nobody holds a lock. So storing and loading have two phases each, and what
/// is between them is never evicted. A block is found once it was filled, not before.
/// </summary>
/// <param name="limit">Bytes of all blocks together.</param>
internal sealed class HostPlaces(long limit)
{
    private readonly Dictionary<BlockHash, LinkedListNode<Entry>> _entries = [];
    private readonly LinkedList<Entry> _byUse = [];
    private readonly Queue<int> _free = [];
    private int _next;

    /// <summary>Bytes of blocks that have a place, filled or not.</summary>
    public long Bytes { get; private set; }

    /// <summary>The number of blocks at the head of a run that can be loaded.</summary>
    /// <param name="keys">The run.</param>
    /// <param name="bytes">Bytes of each.</param>
    public int Find(ReadOnlySpan<BlockHash> keys, int bytes)
    {
        int found = 0;
        while (found < keys.Length && _entries.TryGetValue(keys[found], out LinkedListNode<Entry>? node) && node.Value.IsFilled && node.Value.Bytes == bytes)
        {
            found++;
        }

        return found;
    }

    /// <summary>Takes places for those blocks that have none yet, and evicts the ones used longest ago where that needs room.</summary>
    /// <param name="keys">The blocks. Those that are there already stay.</param>
    /// <param name="bytes">Bytes of each.</param>
    /// <param name="stored">Receives the blocks to be filled, in order: <see cref="CompleteStore"/> ends it.</param>
    /// <param name="evicted">Receives what is gone. Its places may be among those of <paramref name="stored"/>.</param>
    /// <returns>False if there is no room even so; nothing has changed.</returns>
    public bool PrepareStore(ReadOnlySpan<BlockHash> keys, int bytes, List<HostPlace> stored, List<HostPlace> evicted)
    {
        HashSet<BlockHash> asked = [.. keys];
        long needed = 0;
        foreach (BlockHash key in asked)
        {
            needed += _entries.ContainsKey(key) ? 0 : bytes;
        }

        if (!Victims(Bytes + needed - limit, asked, out List<LinkedListNode<Entry>> victims))
        {
            return false;
        }

        int gone = 0;
        foreach (BlockHash key in keys)
        {
            if (_entries.ContainsKey(key))
            {
                continue;
            }

            while (Bytes + bytes > limit)
            {
                Entry victim = victims[gone++].Value;
                evicted.Add(new HostPlace(victim.Key, victim.Number));
                Remove(victim.Key);
            }

            var entry = new Entry(key, _free.TryDequeue(out int free) ? free : _next++, bytes);
            _entries.Add(key, _byUse.AddLast(entry));
            Bytes += bytes;
            stored.Add(new HostPlace(key, entry.Number));
        }

        return true;
    }

    /// <summary>Ends a store: its blocks are found from now on, or, if it failed, were never there.</summary>
    public void CompleteStore(ReadOnlySpan<HostPlace> stored, bool isFilled)
    {
        foreach (HostPlace place in stored)
        {
            if (isFilled)
            {
                _entries[place.Key].Value.IsFilled = true;
            }
            else
            {
                Remove(place.Key);
            }
        }
    }

    /// <summary>Holds the blocks at the head of a run until <see cref="CompleteLoad"/>.</summary>
    /// <param name="keys">The run.</param>
    /// <param name="bytes">Bytes of each.</param>
    /// <param name="places">Receives their places.</param>
    /// <returns>How many there are.</returns>
    public int PrepareLoad(ReadOnlySpan<BlockHash> keys, int bytes, Span<int> places)
    {
        int found = Find(keys, bytes);
        for (int i = 0; i < found; i++)
        {
            Entry entry = _entries[keys[i]].Value;
            entry.Loads++;
            places[i] = entry.Number;
        }

        return found;
    }

    /// <summary>Ends a load.</summary>
    public void CompleteLoad(ReadOnlySpan<BlockHash> loaded)
    {
        foreach (BlockHash key in loaded)
        {
            _entries[key].Value.Loads--;
        }
    }

    /// <summary>Notes that blocks were used, the last of the run first: without its beginning the rest of a prefix is of no use, so that the end goes before it.</summary>
    public void Touch(ReadOnlySpan<BlockHash> keys)
    {
        for (int i = keys.Length - 1; i >= 0; i--)
        {
            if (_entries.TryGetValue(keys[i], out LinkedListNode<Entry>? node))
            {
                _byUse.Remove(node);
                _byUse.AddLast(node);
            }
        }
    }

    // Those that go, the one used longest ago first, for so many bytes.
    private bool Victims(long bytes, HashSet<BlockHash> kept, out List<LinkedListNode<Entry>> victims)
    {
        victims = [];
        for (LinkedListNode<Entry>? node = _byUse.First; node is not null && bytes > 0; node = node.Next)
        {
            if (node.Value.IsFilled && node.Value.Loads == 0 && !kept.Contains(node.Value.Key))
            {
                victims.Add(node);
                bytes -= node.Value.Bytes;
            }
        }

        return bytes <= 0;
    }

    private void Remove(BlockHash key)
    {
        _entries.Remove(key, out LinkedListNode<Entry>? node);
        _byUse.Remove(node!);
        _free.Enqueue(node!.Value.Number);
        Bytes -= node.Value.Bytes;
    }

    private sealed class Entry(BlockHash key, int number, int bytes)
    {
        public BlockHash Key { get; } = key;

        public int Number { get; } = number;

        public int Bytes { get; } = bytes;

        /// <summary>True once its bytes are there.</summary>
        public bool IsFilled { get; set; }

        /// <summary>Loads that have not ended.</summary>
        public int Loads { get; set; }
    }
}
