using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Bytes of bookkeeping that the rooms above take, as they count them themselves.</summary>
internal sealed record Bookkeeping
{
    /// <summary>Of a step's working memory, without the tier's batch.</summary>
    public required long Step { get; init; }

    /// <summary>Of one sequence, without the host memory of open leaves.</summary>
    public required SequenceSize Sequence { get; init; }

    /// <summary>Of the memory that plans are made in; 0 without a policy.</summary>
    public required long Plan { get; init; }

    /// <summary>At most of one block of the prefix index, hash buckets counted; 0 without prefix reuse.</summary>
    public required long BlockAtMost { get; init; }

    /// <summary>Of a prefix index of so many blocks; 0 without prefix reuse.</summary>
    public required Func<int, long> Blocks { get; init; }
}

/// <summary>What a tier takes beside its arena.</summary>
/// <param name="Bytes">Bytes of the tier and of one step's batch.</param>
/// <param name="LeafBytes">Bytes of host memory of each open leaf (<see cref="KernelTier.LeafHostBytes"/>).</param>
internal readonly record struct TierCost(long Bytes, long LeafBytes);

/// <summary>Counts the slabs that a cache is made of, and what they and everything beside them cost.</summary>
internal sealed class BudgetPlan
{
    // The null block, and one to take.
    private const int FewestBlocks = 2;
    private const int MostSlots = 64;
    private const double TolerableWaste = 0.015;

    // All rows of a sequence open a page together, and seal it together. If a slab has as many slots as there are rows, or a divisor of that, slabs of open pages are
    // full or free. Else they come to hold pages of several sequences, which do not go together, and more than this part is lost between them.
    private const double LossOfParts = 0.05;

    // Forks share pages and have tables of their own: without a budget, tables of all sequences find room, up to this part of the pages' bytes.
    private const int PartOfTables = 16;

    // Pages that come back from host memory have this part of what a budget holds beyond the least, where nobody says how many.
    private const int PartOfStage = 4;

    private readonly PageClasses _classes;
    private readonly KernelShape _shape;
    private readonly KvCacheOptions _options;
    private readonly Bookkeeping _bookkeeping;
    private readonly TierCost _tier;
    private readonly long _blockUnits;

    /// <param name="classes">Layouts of the pages.</param>
    /// <param name="options">Checked options.</param>
    /// <param name="bookkeeping">Bytes that the rooms above take.</param>
    /// <param name="tier">What the tier takes beside the arena.</param>
    public BudgetPlan(PageClasses classes, KvCacheOptions options, Bookkeeping bookkeeping, in TierCost tier)
    {
        (_classes, _shape, _options, _bookkeeping, _tier) = (classes, classes.Shape, options, bookkeeping, tier);
        Map = new TableMap(_shape);
        SequenceSize = bookkeeping.Sequence with { OfOpenLeaf = tier.LeafBytes };
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

    /// <summary>
    /// Leaves that have room at any time, those that there are counted: of a sequence of the greatest length, where a policy lets it grow for ever. Pages would
    /// fill that room early, and lie in it when the leaves are needed.
    /// </summary>
    public int SpareLeaves => _options.Policy is null ? 0 : Map.Leaves;

    /// <summary>Slots of the largest sealed class (<see cref="PageClasses.LargestSealed"/>) for pages that come back from host memory.</summary>
    public int StagedPages => _options.Offload is not { } offload ? 0 : offload.StagedPages ?? (int)Math.Min(offload.UsualPlaces(_shape.Geometry.KvHeads), LeastStaged + SpareStaged);

    // One for each KV head, where nobody says.
    private int LeastStaged => _options.Offload is not { } offload ? 0 : offload.StagedPages ?? _shape.Geometry.KvHeads;

    // Slots in a part of the slabs beyond the least.
    private long SpareStaged => Configured is not { } budget ? int.MaxValue
        : Math.Max(0, ((budget - FixedBytes) / SlabBytes(Slabs)) - Slabs.SlabsFor(FewestSlots())) / PartOfStage * Slabs.SlotsPerSlab[Slabs.SizeOf(_classes.LargestSealed)];

    /// <summary>Bytes of those slots.</summary>
    public long StagedBytes => (long)StagedPages * Slabs.Sizes[Slabs.SizeOf(_classes.LargestSealed)] * PageLayout.UnitBytes;

    /// <summary>The budget that the configuration sets, or null.</summary>
    public long? Configured => _options.BudgetFor(_shape.Geometry);

    private long Rows => (long)_shape.Geometry.Layers * _shape.Geometry.KvHeads;

    /// <summary>Blocks that name all that sealed pages could hold, and one to take before another is given up.</summary>
    public int Blocks(int slabs) => (int)Math.Min(int.MaxValue / 2, FewestBlocks + ((long)slabs * Slabs.Units / _blockUnits));

    /// <summary>Bytes beside the slabs: the root of the tables, a step's memory, every sequence's bookkeeping while it is empty, and that of one of the greatest length.</summary>
    public long FixedBytes =>
        Map.Bytes + _tier.Bytes + _bookkeeping.Step + _bookkeeping.Plan + (FewestBlocks * _bookkeeping.BlockAtMost)
        + ((_options.MaxSequences - 1) * SequenceSize.Fixed) + SequenceSize.Bytes(Map.Leaves);

    /// <summary>Bytes of a step's working memory, without those that the tier takes for it.</summary>
    public long StepBytes => _bookkeeping.Step;

    /// <summary>Bytes of bookkeeping of one sequence.</summary>
    public SequenceSize SequenceSize { get; private set; }

    /// <summary>Tells what leaves take in the tier that was made. Without a budget nothing has to be known of a tier before it is there.</summary>
    public void SetLeafBytes(long bytes) => SequenceSize = SequenceSize with { OfOpenLeaf = bytes };

    /// <summary>Slabs with which one sequence steps token by token for ever, within what its policy keeps.</summary>
    public long FewestSlabs() => Slabs.SlabsFor(FewestSlots());

    /// <summary>Slabs with which MaxTokens tokens fit, however they are spread over MaxSequences sequences and steps.</summary>
    public long SlabsForMaxTokens() => Slabs.SlabsFor(SlotsForMaxTokens());

    /// <summary>Slabs beyond which no table could list more.</summary>
    public long MostSlabs()
    {
        long pages = ((long)_shape.TableCapacity + 2) * _options.MaxSequences * Rows;
        long[] slots = new long[SlotCounts.Kinds];
        slots[KernelShape.Open] = pages;
        slots[SlotCounts.Leaf] = (long)Map.Leaves * _options.MaxSequences;
        slots[_classes.LargestSealed] += StagedPages;
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
                $"memory budget ({(_options.MemoryBudgetBytes is null ? nameof(_options.MemoryBudgetPercent) : nameof(_options.MemoryBudgetBytes))})",
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
        Map.Bytes + _tier.Bytes + _bookkeeping.Step + _bookkeeping.Plan + PagePool.BookkeepingBytes(Slabs, slabs) + _bookkeeping.Blocks(Blocks(slabs)) + StagedBytes;

    /// <summary>Bytes that a cache without a budget may come to.</summary>
    public long Unbudgeted(int slabs, long createdBytes)
    {
        // Room for leaves is a power of two of them.
        long leaves = 2 * SlotsForMaxTokens()[SlotCounts.Leaf];
        return createdBytes + (slabs * Slabs.Bytes) + (_options.MaxSequences * SequenceSize.Fixed) + (leaves * (SequenceSize.OfLeaf + SequenceSize.OfOpenLeaf));
    }

    /// <summary>Refuses more slabs than slot numbers can name.</summary>
    public int Addressable(long slabs)
    {
        long units = Map.FirstPageUnit + (slabs * Slabs.Units);
        if (units > int.MaxValue)
        {
            throw new KvConfigurationException(
                $"arena ({nameof(_options.MaxTokens)}, or the memory budget)", $"at most {(long)int.MaxValue * PageLayout.UnitBytes} bytes", $"{units * PageLayout.UnitBytes} bytes");
        }

        return (int)slabs;
    }

    // Of the slabs that the budget has room for, those that lose least: by what slots leave over of them, and by half a slab of each size, which is not full.
    private (SlabShape Slabs, long Minimum) ChooseSlabs()
    {
        long[] fewest = FewestSlots();
        var smallest = new SlabShape(_shape, Map.LeafUnits, slots: 1);
        double bytes = Math.Max(1, Configured - FixedBytes ?? smallest.SlabsFor(SlotsForMaxTokens()) * smallest.Bytes);
        (SlabShape? best, double least, long minimum) = (null, double.PositiveInfinity, long.MaxValue);
        for (int slots = 1; slots <= MostSlots; slots++)
        {
            var slabs = new SlabShape(_shape, Map.LeafUnits, slots);
            long needed = FixedBytes + (slabs.SlabsFor(fewest) * SlabBytes(slabs));
            (smallest, minimum) = needed < minimum ? (slabs, needed) : (smallest, minimum);
            double loss = Math.Max(slabs.Waste, TolerableWaste) + (slabs.Sizes.Count * slabs.Bytes / (2 * bytes)) + (Rows % slots == 0 ? 0 : LossOfParts);
            if (loss < least && !(Configured < needed))
            {
                (best, least) = (slabs, loss);
            }
        }

        return (best ?? smallest, minimum);
    }

    private long SlabBytes(SlabShape slabs) => slabs.BytesWithBookkeeping + (((slabs.Units * _bookkeeping.BlockAtMost) + _blockUnits - 1) / _blockUnits);

    private long[] FewestSlots()
    {
        long longest = _options.LongestSequence / _shape.Geometry.PageTokens;
        long kept = Math.Min(_options.Policy?.MostKeptPages(_shape.Geometry.PageTokens) ?? 0, longest);
        long[] slots = SpareSlots();
        slots[KernelShape.Open] += _classes.Seals.MostOpen * Rows;
        slots[SlotCounts.Leaf] = Map.Leaves;
        slots[_classes.LargestSealed] += LeastStaged;
        _classes.AddSealed(slots, inPlace => kept + (inPlace ? 0 : 1));
        return slots;
    }

    private long[] SlotsForMaxTokens()
    {
        long full = _options.MaxTokens / _shape.Geometry.PageTokens;
        long all = full + _options.MaxSequences;
        long open = Math.Min(all, _classes.Seals.MostOpenInStep(_options.MaxSequences, _options.MaxBatchTokens));
        long[] slots = SpareSlots();
        for (int layer = 0; layer < _shape.Geometry.Layers; layer++)
        {
            slots[KernelShape.Open] += (_classes.SealsInPlace(layer) ? all : open) * _shape.Geometry.KvHeads;
        }

        slots[_classes.LargestSealed] += StagedPages;
        _classes.AddSealed(slots, inPlace => inPlace ? 0 : full);
        long units = 0;
        for (int c = 0; c < _classes.Count; c++)
        {
            units += slots[c] * _shape.Classes[c].Units;
        }

        long tables = units / PartOfTables / Map.LeafUnits;
        long fewest = (full / Map.LeafPages) + _options.MaxSequences;
        slots[SlotCounts.Leaf] = Math.Clamp(tables, fewest, Math.Max(fewest, (long)_options.MaxSequences * Map.Leaves));
        return slots;
    }

    private long[] SpareSlots()
    {
        long[] slots = new long[SlotCounts.Kinds];
        for (int c = 0; c < slots.Length; c++)
        {
            slots[c] = Spare[c];
        }

        return slots;
    }
}
