namespace KvCacheGpu;

/// <summary>Puts blocks that nobody holds into the free lists by their priority, and returns the priority to the default when its time is over.</summary>
internal sealed unsafe class BlockRetention(IndexedBlock* blocks, int count, FreeBlocks free, TimeProvider time)
{
    private const int MostExpiringPerBlock = 4;

    private readonly PriorityQueue<int, long> _expiring = new();

    /// <summary>Puts a hashed block that its last holder has released into the list of its priority.</summary>
    public void Shelve(int block)
    {
        free.PushBack(block, FreeBlocks.ListOf(blocks[block].Priority));
        blocks[block].Expires = 0;
        if (blocks[block].Milliseconds > 0)
        {
            blocks[block].Expires = Now() + blocks[block].Milliseconds;
            _expiring.Enqueue(block, blocks[block].Expires);
            if (_expiring.Count > MostExpiringPerBlock * count)
            {
                KeepCurrentExpiries();
            }
        }
    }

    /// <summary>Returns the priorities whose time is over to the default; the free lists are in order afterwards.</summary>
    public void Decay()
    {
        // An entry of a block that was revived or taken since is recognised by its time, which is cheaper than to search for it then.
        long now = _expiring.Count == 0 ? 0 : Now();
        while (_expiring.TryPeek(out int block, out long expires) && expires <= now)
        {
            _expiring.Dequeue();
            if (blocks[block].References == 0 && blocks[block].Expires == expires)
            {
                free.Remove(block);
                (blocks[block].Priority, blocks[block].Milliseconds, blocks[block].Expires) = (BlockIndex.DefaultPriority, 0, 0);
                free.PushBack(block, FreeBlocks.ListOf(BlockIndex.DefaultPriority));
            }
        }
    }

    // Blocks that are hit again and again leave an entry each time.
    private void KeepCurrentExpiries()
    {
        _expiring.Clear();
        for (int block = 1; block < count; block++)
        {
            if (blocks[block].References == 0 && blocks[block].Expires > 0)
            {
                _expiring.Enqueue(block, blocks[block].Expires);
            }
        }
    }

    private long Now() => (long)(time.GetTimestamp() * 1000.0 / time.TimestampFrequency);
}
