using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>How many slabs a cache is made of, and what they and everything beside them cost.</summary>
internal sealed class BudgetPlan
{
    // The null row, and one to take.
    private const int FewestBlockRows = 2;

    private readonly KernelShape _shape;
    private readonly KvCacheConfig _config;
    private readonly SlabShape _slabs;

    public BudgetPlan(KernelShape shape, KvCacheConfig config)
    {
        (_shape, _config, _slabs) = (shape, config, new SlabShape(shape));
        Map = new TableMap(shape);
    }

    public TableMap Map { get; }

    public SlabShape Slabs => _slabs;

    /// <summary>The budget that the configuration sets, or null.</summary>
    public long? Configured => _config.MemoryBudgetBytes
        ?? (_config.MemoryBudgetPercent is { } percent ? (long)(_shape.Geometry.DenseF16Bytes(_config.MaxTokens) * (percent / 100)) : null);

    private long Rows => (long)_shape.Geometry.Layers * _shape.Geometry.KvHeads;

    private bool SealsInPlace => _shape.Classes[KernelShape.Open] == _shape.Classes[KernelShape.Sealed];

    private long PagesPerSlab => _slabs.SlotsPerSlab[_slabs.SizeOf(KernelShape.Sealed)];

    private long SlabBytes => _slabs.BytesWithBookkeeping
        + (_config.PrefixReuse ? ((PagesPerSlab * PrefixPages.MostBytesOfRow(_shape)) + Rows - 1) / Rows : 0);

    /// <summary>Rows that name every block that sealed pages could hold, and one to take before another is given up.</summary>
    public int BlockRows(int slabs) => (int)Math.Min(int.MaxValue / 2, FewestBlockRows + (slabs * PagesPerSlab / Rows));

    /// <summary>Bytes beside the slabs: tables, a step's memory, and every sequence's own bookkeeping.</summary>
    public long FixedBytes(long tierBytes) =>
        Map.Bytes + tierBytes
        + (_config.PrefixReuse ? FewestBlockRows * PrefixPages.MostBytesOfRow(_shape) : 0)
        + StepMemory.BookkeepingBytes(_shape, _config.MostBatched, _config.MaxBatchTokens)
        + (_config.MaxSequences * SequenceBytes());

    /// <summary>Bytes of bookkeeping of one sequence.</summary>
    public long SequenceBytes() =>
        ((long)_config.MaxTokens * sizeof(int)) + (_config.Policy is null ? 0 : PageMassMap.BookkeepingBytes(_shape))
        + (_config.PrefixReuse ? PrefixChain.BookkeepingBytes(_shape) : 0);

    /// <summary>Slabs with which one sequence steps token by token for ever, within what its policy keeps.</summary>
    public long FewestSlabs()
    {
        long kept = _config.Policy?.MostKeptPages(_shape.Geometry.PageTokens) ?? 0;
        long longest = _config.MaxTokens / _shape.Geometry.PageTokens;
        return _slabs.SlabsFor(2 * Rows, (Math.Min(kept, longest) + (SealsInPlace ? 0 : 1)) * Rows);
    }

    /// <summary>Slabs with which MaxTokens tokens fit, however they are spread over MaxSequences sequences and steps.</summary>
    public long SlabsForMaxTokens()
    {
        long full = _config.MaxTokens / _shape.Geometry.PageTokens;
        long all = full + _config.MaxSequences;
        if (SealsInPlace)
        {
            return _slabs.SlabsFor(all * Rows, 0);
        }

        long open = (3L * _config.MaxSequences) + (_config.MaxBatchTokens / _shape.Geometry.PageTokens);
        return _slabs.SlabsFor(Math.Min(open, all) * Rows, full * Rows);
    }

    /// <summary>Slabs beyond which no table could list more.</summary>
    public long MostSlabs()
    {
        long pages = ((long)_shape.TableCapacity + 2) * _config.MaxSequences * Rows;
        return _slabs.SlabsFor(pages, SealsInPlace ? 0 : pages);
    }

    /// <summary>Slabs that the budget holds beside everything else.</summary>
    /// <exception cref="KvConfigurationException">Fewer than the least; names the budget that suffices.</exception>
    public int SlabsWithin(long budget, long tierBytes)
    {
        long fewest = FewestSlabs();
        long slabs = (budget - FixedBytes(tierBytes)) / SlabBytes;
        if (slabs < fewest)
        {
            long minimum = FixedBytes(tierBytes) + (fewest * SlabBytes);
            throw new KvConfigurationException(
                "memory budget", $"at least {minimum} bytes (tables, working memory, and the pages that one sequence always holds)", $"{budget} bytes");
        }

        return Addressable(Math.Min(slabs, Math.Max(MostSlabs(), fewest)));
    }

    /// <summary>Refuses more slabs than slot numbers can name.</summary>
    public int Addressable(long slabs)
    {
        long units = Map.FirstPageUnit + (slabs * _slabs.Units);
        if (units > int.MaxValue)
        {
            throw new KvConfigurationException(
                "arena", $"at most {(long)int.MaxValue * PageLayout.UnitBytes} bytes", $"{units * PageLayout.UnitBytes} bytes");
        }

        return (int)slabs;
    }
}
