namespace KvCacheGpu;

/// <summary>Which resident blocks lie in a lower tier too, which of them came from there, and what became of those. Callers are inside of the pool's gate.</summary>
internal sealed class BlocksBelow
{
    private readonly HashSet<int> _below = [];
    private readonly HashSet<int> _unused = [];

    /// <summary>Blocks that came from below.</summary>
    public long Fetched { get; private set; }

    /// <summary>Those of them that a sequence waited for.</summary>
    public long Late { get; private set; }

    /// <summary>Those that a sequence began with.</summary>
    public long Used { get; private set; }

    /// <summary>Those that were given up before any did.</summary>
    public long Wasted { get; private set; }

    /// <summary>True if a copy of a block lies below.</summary>
    public bool Has(int block) => _below.Contains(block);

    /// <summary>Notes that a block was copied.</summary>
    public void Add(int block) => _below.Add(block);

    /// <summary>Notes a block that came.</summary>
    /// <param name="block">The block.</param>
    /// <param name="isLate">True if a sequence waits for it.</param>
    public void AddFetched(int block, bool isLate)
    {
        (Fetched, Late) = (Fetched + 1, Late + (isLate ? 1 : 0));
        _below.Add(block);
        _unused.Add(block);
    }

    /// <summary>Notes that a sequence holds a block.</summary>
    public void Use(int block) => Used += _unused.Remove(block) ? 1 : 0;

    /// <summary>Notes that a block is given up.</summary>
    public void GiveUp(int block)
    {
        _below.Remove(block);
        Wasted += _unused.Remove(block) ? 1 : 0;
    }
}
