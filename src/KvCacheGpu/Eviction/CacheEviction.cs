namespace KvCacheGpu;

/// <summary>Frees pages of sequences: of one cache, or of all the parts of a group. Sequences come one at a time, each held by who calls.</summary>
internal interface IEviction
{
    /// <summary>Bytes that a sequence could give.</summary>
    long Evictable(SequenceState sequence);

    /// <summary>Plans for a sequence and carries it out.</summary>
    /// <param name="sequence">Held by the caller; between steps, or inside of Commit once it is published.</param>
    /// <param name="bytesToFree">Bytes to free; 0 where nothing binds.</param>
    /// <param name="step">Steps committed.</param>
    /// <param name="mayDemote">True if pages may shrink; else they stay or go.</param>
    /// <returns>Bytes freed.</returns>
    long Evict(SequenceState sequence, long bytesToFree, long step, bool mayDemote);

    /// <summary>Moves the sequence's pages together, so that slabs become free.</summary>
    void Compact(SequenceState sequence);

    /// <summary>Bytes of pages beyond the watermark; 0 or less if they are within it, or if no budget is configured.</summary>
    long Excess();

    /// <summary>Bytes that have to go everywhere, so that so many go in this cache.</summary>
    long OfWhole(long bytes);
}

/// <summary>Bytes of the pages that the watermark is for, without those that only the prefix index keeps, and the bytes that they may take.</summary>
internal readonly record struct PageLoad(long Pages, long Room);

/// <summary>Frees pages of one cache. One per cache with a policy.</summary>
internal sealed class CacheEviction : IEviction, IDisposable
{
    private readonly CacheState _cache;
    private readonly Compactor _compactor;
    private readonly long? _slabBytes;

    /// <param name="cache">The cache.</param>
    /// <param name="plans">The memory that plans are made in; disposed with this.</param>
    /// <param name="slabBytesOfBudget">Bytes of slabs that the configured budget holds beside everything else; null without one: nothing is held to a watermark then.</param>
    public CacheEviction(CacheState cache, PlanMemory plans, long? slabBytesOfBudget)
    {
        (_cache, _slabBytes, Evictor) = (cache, slabBytesOfBudget, new Evictor(cache, plans));
        _compactor = new Compactor(cache.Pool, cache.Room, cache.Writer);
    }

    /// <summary>Carries out what the policy says of one sequence.</summary>
    public Evictor Evictor { get; }

    /// <inheritdoc/>
    public long Evictable(SequenceState sequence) => Evictor.Evictable(sequence);

    /// <inheritdoc/>
    public long Evict(SequenceState sequence, long bytesToFree, long step, bool mayDemote) => Evictor.Evict(sequence, bytesToFree, step, mayDemote);

    /// <inheritdoc/>
    public void Compact(SequenceState sequence)
    {
        while (_compactor.Compact(sequence.Table))
        {
        }
    }

    /// <inheritdoc/>
    public long Excess() => Load() is { } load ? load.Pages - (long)(_cache.Options.Watermark * load.Room) : 0;

    /// <inheritdoc/>
    public long OfWhole(long bytes) => bytes;

    /// <summary>What the watermark is compared with; null without a configured budget.</summary>
    public PageLoad? Load()
    {
        if (_slabBytes is not { } slabBytes)
        {
            return null;
        }

        using (_cache.Pool.Gate.Enter())
        {
            // Leaves of tables stay as long as their sequences, and have room of their own: the watermark is the pages' alone.
            long leaves = _cache.Pool.Leaves * _cache.Tier.Map.LeafBytes;
            long staged = _cache.Offload?.StageBytes ?? 0;
            long pages = _cache.Pool.LiveBytes - leaves - staged;
            long free = _cache.Room.WithSpare(default)[SlotCounts.Leaf] * _cache.Tier.Map.LeafBytes;
            long room = Math.Min(_cache.Room.BudgetBytes - (_cache.Ledger.Live - pages), slabBytes - leaves - staged) - free;
            return new PageLoad(pages - _cache.Pool.CachedBytes, room);
        }
    }

    public void Dispose() => Evictor.Dispose();
}
