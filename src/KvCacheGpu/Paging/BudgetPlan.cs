using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>How many slabs a cache is made of, and what they and everything beside them cost.</summary>
internal sealed class BudgetPlan
{
    // The null row, and one to take.
    private const int FewestBlockRows = 2;
    private const int MostSlots = 64;
    private const double TolerableWaste = 0.015;

    private readonly PageClasses _classes;
    private readonly KernelShape _shape;
    private readonly KvCacheOptions _config;
    private readonly long _tierBytes;
    private readonly long _blockUnits;

    /// <param name="classes">What pages are laid out as.</param>
    /// <param name="config">Options that were checked.</param>
    /// <param name="tierBytes">What the tier and a step's batch take beside the arena.</param>
    public BudgetPlan(PageClasses classes, KvCacheOptions config, long tierBytes)
    {
        (_classes, _shape, _config, _tierBytes) = (classes, classes.Shape, config, tierBytes);
        Map = new TableMap(_shape);
        for (int layer = 0; layer < _shape.Geometry.Layers; layer++)
        {
            _blockUnits += (long)_shape.Classes[classes.SealedIn(layer)].Units * _shape.Geometry.KvHeads;
        }

        SlotCounts spare = default;
        for (int c = 1; c < classes.Count; c++)
        {
            spare[c] = (classes.Targets >> c) & 1;
        }

        Spare = spare;
        (Slabs, MinimumBytes) = ChooseSlabs();
    }

    public TableMap Map { get; }

    public SlabShape Slabs { get; }

    /// <summary>Slots that steps leave free, one of each class that pages may be demoted to: there is always room to make room.</summary>
    public SlotCounts Spare { get; }

    /// <summary>The budget that the configuration sets, or null.</summary>
    public long? Configured => _config.BudgetFor(_shape.Geometry);

    private KvStatistics Needs => _config.Needs;

    private long PlanBytes => _config.Policy is null ? 0 : PlanMemory.BookkeepingBytes(_shape, Needs);

    private long Rows => (long)_shape.Geometry.Layers * _shape.Geometry.KvHeads;

    /// <summary>Rows that name every block that sealed pages could hold, and one to take before another is given up.</summary>
    public int BlockRows(int slabs) => (int)Math.Min(int.MaxValue / 2, FewestBlockRows + ((long)slabs * Slabs.Units / _blockUnits));

    /// <summary>Bytes beside the slabs: tables, a step's memory, and every sequence's own bookkeeping.</summary>
    public long FixedBytes =>
        Map.Bytes + _tierBytes
        + (_config.PrefixReuse ? FewestBlockRows * PrefixPages.MostBytesOfRow(_shape) : 0)
        + StepMemory.BookkeepingBytes(_shape, _config.MostBatched, _config.MaxBatchTokens)
        + PlanBytes + (_config.MaxSequences * SequenceBytes());

    /// <summary>Bytes of bookkeeping of one sequence.</summary>
    public long SequenceBytes() =>
        ((long)_config.MaxTokens * sizeof(int)) + (_config.PrefixReuse ? PrefixChain.BookkeepingBytes(_shape) : 0)
        + SequenceScores.BookkeepingBytes(_shape, Needs) + (_config.MergePages ? DeadTokens.BookkeepingBytes(_shape) : 0);

    /// <summary>Slabs with which one sequence steps token by token for ever, within what its policy keeps.</summary>
    public long FewestSlabs() => Slabs.SlabsFor(FewestSlots());

    /// <summary>Slabs with which MaxTokens tokens fit, however they are spread over MaxSequences sequences and steps.</summary>
    public long SlabsForMaxTokens() => Slabs.SlabsFor(SlotsForMaxTokens());

    /// <summary>Slabs beyond which no table could list more.</summary>
    public long MostSlabs()
    {
        long pages = ((long)_shape.TableCapacity + 2) * _config.MaxSequences * Rows;
        long[] slots = new long[_classes.Count];
        slots[KernelShape.Open] = pages;
        _classes.AddSealed(slots, inPlace => inPlace ? 0 : pages / _shape.Geometry.Layers / _shape.Geometry.KvHeads);
        for (int c = 1; c < _classes.Count; c++)
        {
            slots[c] += Spare[c] * pages;
        }

        return Slabs.SlabsFor(slots);
    }

    /// <summary>The least budget that a cache can be made with.</summary>
    public long MinimumBytes { get; }

    /// <summary>Bytes of slabs that the budget holds beside everything else, whether tables could list as many or not.</summary>
    public long SlabBytesWithin(long budget) => (budget - FixedBytes) / SlabBytes(Slabs) * Slabs.Bytes;

    /// <summary>Slabs that the budget holds beside everything else.</summary>
    /// <exception cref="KvConfigurationException">Fewer than the least; names the budget that suffices.</exception>
    public int SlabsWithin(long budget)
    {
        long slabs = (budget - FixedBytes) / SlabBytes(Slabs);
        if (budget < MinimumBytes)
        {
            throw new KvConfigurationException(
                $"memory budget ({(_config.MemoryBudgetBytes is null ? nameof(_config.MemoryBudgetPercent) : nameof(_config.MemoryBudgetBytes))})",
                $"at least {MinimumBytes} bytes (tables, working memory, and the pages that one sequence always holds)",
                $"{budget} bytes")
            {
                Needed = MinimumBytes,
                Free = budget,
                Unit = "bytes",
            };
        }

        return Addressable(Math.Min(slabs, Math.Max(MostSlabs(), FewestSlabs())));
    }

    /// <summary>Bytes in use once a cache of so many slabs was made.</summary>
    public long CreatedBytes(int slabs) =>
        Map.Bytes + _tierBytes + PlanBytes + PagePool.BookkeepingBytes(Slabs, slabs)
        + (_config.PrefixReuse ? PrefixPages.BookkeepingBytes(BlockRows(slabs), _shape) : 0)
        + StepMemory.BookkeepingBytes(_shape, _config.MostBatched, _config.MaxBatchTokens);

    /// <summary>What a cache without a budget may come to.</summary>
    public long Unbudgeted(int slabs, long createdBytes) =>
        createdBytes + (slabs * Slabs.Bytes) + (_config.MaxSequences * SequenceBytes());

    /// <summary>Refuses more slabs than slot numbers can name.</summary>
    public int Addressable(long slabs)
    {
        long units = Map.FirstPageUnit + (slabs * Slabs.Units);
        if (units > int.MaxValue)
        {
            throw new KvConfigurationException(
                $"arena ({nameof(_config.MaxTokens)}, or the memory budget)", $"at most {(long)int.MaxValue * PageLayout.UnitBytes} bytes", $"{units * PageLayout.UnitBytes} bytes");
        }

        return (int)slabs;
    }

    // Of the slabs that the budget has room for, those that lose least: by what slots leave over of them, and by half a slab of each size, which is not full.
    private (SlabShape Slabs, long Minimum) ChooseSlabs()
    {
        long[] fewest = FewestSlots();
        var smallest = new SlabShape(_shape, slots: 1);
        double bytes = Math.Max(1, Configured - FixedBytes ?? smallest.SlabsFor(SlotsForMaxTokens()) * smallest.Bytes);
        (SlabShape? best, double least, long minimum) = (null, double.PositiveInfinity, long.MaxValue);
        for (int slots = 1; slots <= MostSlots; slots++)
        {
            var slabs = new SlabShape(_shape, slots);
            long needed = FixedBytes + (slabs.SlabsFor(fewest) * SlabBytes(slabs));
            (smallest, minimum) = needed < minimum ? (slabs, needed) : (smallest, minimum);
            double loss = Math.Max(slabs.Waste, TolerableWaste) + (slabs.Sizes.Count * slabs.Bytes / (2 * bytes));
            if (loss < least && !(Configured < needed))
            {
                (best, least) = (slabs, loss);
            }
        }

        return (best ?? smallest, minimum);
    }

    private long SlabBytes(SlabShape slabs) => slabs.BytesWithBookkeeping
        + (_config.PrefixReuse ? ((slabs.Units * PrefixPages.MostBytesOfRow(_shape)) + _blockUnits - 1) / _blockUnits : 0);

    private long[] FewestSlots()
    {
        long longest = _config.MaxTokens / _shape.Geometry.PageTokens;
        long kept = Math.Min(_config.Policy?.MostKeptPages(_shape.Geometry.PageTokens) ?? 0, longest);
        long[] slots = SpareSlots();
        slots[KernelShape.Open] += 2 * Rows;
        _classes.AddSealed(slots, inPlace => kept + (inPlace ? 0 : 1));
        return slots;
    }

    private long[] SlotsForMaxTokens()
    {
        long full = _config.MaxTokens / _shape.Geometry.PageTokens;
        long all = full + _config.MaxSequences;
        long open = Math.Min(all, (3L * _config.MaxSequences) + (_config.MaxBatchTokens / _shape.Geometry.PageTokens));
        long[] slots = SpareSlots();
        for (int layer = 0; layer < _shape.Geometry.Layers; layer++)
        {
            slots[KernelShape.Open] += (_classes.SealsInPlace(layer) ? all : open) * _shape.Geometry.KvHeads;
        }

        _classes.AddSealed(slots, inPlace => inPlace ? 0 : full);
        return slots;
    }

    private long[] SpareSlots()
    {
        long[] slots = new long[_classes.Count];
        for (int c = 0; c < slots.Length; c++)
        {
            slots[c] = Spare[c];
        }

        return slots;
    }
}
