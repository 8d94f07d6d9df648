using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Counts the bytes of a cache, and makes its parts: the one place that knows every room.</summary>
internal static class CacheCreation
{
    /// <summary>Checks the options, and lays out the pages.</summary>
    /// <exception cref="KvConfigurationException">E003: an option is out of its range or does not fit the geometry. The error names it.</exception>
    public static PageClasses ClassesFor(KvCacheOptions options, KvGeometry geometry)
    {
        PageClasses classes = OptionsCheck.ClassesFor(options, geometry);
        try
        {
            _ = StepMemory.BookkeepingBytes(classes.Shape, options.MostBatched, options.MaxBatchTokens);
            return classes;
        }
        catch (OverflowException e)
        {
            throw OptionsCheck.TooLarge(options, e);
        }
    }

    /// <summary>Counts the bytes of a cache, without reserving its arena.</summary>
    /// <exception cref="KvConfigurationException">E003: an option is out of its range, or the budget is below the minimum, which it names.</exception>
    public static KvCacheBytes BytesFor(KvGeometry geometry, KvCacheOptions options, TierFactory createTier)
    {
        PageClasses classes = ClassesFor(options, geometry);
        var plan = new BudgetPlan(classes, options, BookkeepingOf(classes.Shape, options), CostOf(options, classes.Shape, createTier));
        int slabs = SlabsOf(plan);
        long created = plan.CreatedBytes(slabs);
        return new KvCacheBytes(
            plan.Map.Bytes + (slabs * plan.Slabs.Bytes), created, plan.Configured ?? plan.Unbudgeted(slabs, created - plan.StagedBytes), plan.MinimumBytes);
    }

    /// <summary>Counts the bytes of one sequence, in tokens that such a cache takes.</summary>
    /// <exception cref="KvConfigurationException">E003: an option is out of its range or does not fit the geometry.</exception>
    public static KvSequenceBytes SequenceBytesFor(KvGeometry geometry, KvCacheOptions options, int tokens)
    {
        PageClasses classes = ClassesFor(options, geometry);
        var map = new TableMap(classes.Shape);
        int leaves = map.LeavesFor(geometry.PagesFor(tokens));
        return new KvSequenceBytes(
            classes.PageBytes(tokens), classes.MostPageBytes(tokens), leaves * map.LeafBytes, SizeOf(classes.Shape, options).Bytes(leaves), leaves * TablePatches.HostBytesOf(map));
    }

    /// <summary>Makes a cache on a device, which is disposed if that fails.</summary>
    public static (CacheState State, Pressure? Pressure) Create(KvGeometry geometry, KvCacheOptions options, CacheDevice device, PageClasses? ofPart)
    {
        try
        {
            ArgumentNullException.ThrowIfNull(geometry);
            return Create(geometry, options, device.CreateTier, null, device.Info, ofPart);
        }
        catch
        {
            device.Dispose();
            throw;
        }
    }

    /// <summary>Makes a cache: reserves its arena, and everything beside it.</summary>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="options">Its options, the cache's own from now on.</param>
    /// <param name="createTier">Makes its tier.</param>
    /// <param name="observer">Told of every allocation and release, or null.</param>
    /// <param name="device">The device that the tier runs on.</param>
    /// <param name="ofPart">Classes of the pages where the cache is a part of a group, which checked them; else null: those of the options.</param>
    /// <returns>The state, and the eviction of a cache with a policy.</returns>
    public static (CacheState State, Pressure? Pressure) Create(
        KvGeometry geometry, KvCacheOptions options, TierFactory createTier, AllocationObserver? observer, KvDeviceInfo device, PageClasses? ofPart = null)
    {
        PageClasses classes = ofPart ?? ClassesFor(options, geometry);
        KernelShape shape = classes.Shape;
        TierCost cost = options.BudgetFor(geometry) is null ? default : CostOf(options, shape, createTier);
        var plan = new BudgetPlan(classes, options, BookkeepingOf(shape, options), cost);
        int slabs = SlabsOf(plan);
        var ledger = new MemoryLedger(observer);
        long arenaBytes = plan.Map.Bytes + (slabs * plan.Slabs.Bytes);
        KernelTier tier;
        try
        {
            tier = createTier(shape, arenaBytes, ledger.Add);
        }
        catch (OutOfMemoryException e)
        {
            throw new KvOutOfMemoryException(new KvShortage("the arena", KvResource.DeviceBytes, arenaBytes, 0), e);
        }

        var made = new Stack<IDisposable>();
        made.Push(tier);
        try
        {
            return Fill(options, classes, plan, tier, ledger, slabs, device, made);
        }
        catch
        {
            while (made.TryPop(out IDisposable? part))
            {
                part.Dispose();
            }

            throw;
        }
    }

    /// <summary>Gives the memory of a cache back, whose sequences are gone.</summary>
    public static void GiveBack(CacheState cache, Pressure? pressure)
    {
        using (cache.Pool.Gate.Enter())
        {
            foreach (int[] blocks in cache.PinnedBlocks)
            {
                cache.Prefixes?.Unpin(blocks);
            }

            cache.PinnedBlocks.Clear();
            cache.Offload?.Ahead?.Stop();
            cache.Room.Dispose();
            cache.Ledger.Add(AllocationKind.Bookkeeping, -cache.Tier.Map.Bytes);
            pressure?.Dispose();
            cache.Prefixes?.Dispose();
            cache.Pool.Dispose();
            using (cache.DeviceGate.Enter())
            {
                // A snapshot may still read pages.
                cache.Offload?.Room.Dispose();
                cache.Tier.Dispose();
            }
        }
    }

    private static (CacheState State, Pressure? Pressure) Fill(
        KvCacheOptions options, PageClasses classes, BudgetPlan plan, KernelTier tier, MemoryLedger ledger, int slabs, KvDeviceInfo device, Stack<IDisposable> made)
    {
        KernelShape shape = classes.Shape;
        plan.SetLeafBytes(tier.LeafHostBytes);
        ledger.Add(AllocationKind.Bookkeeping, plan.Map.Bytes);
        var deviceGate = new Gate(GateOrder.Device);
        var pool = new PagePool(plan.Slabs, plan.Map.FirstPageUnit, slabs, ledger);
        made.Push(pool);
        PrefixPages? prefixes = options.PrefixReuse ? new PrefixPages(plan.Blocks(slabs), shape, pool, ledger, options.PrefixEvents, classes.IsExact) : null;
        if (prefixes is not null)
        {
            made.Push(prefixes);
        }

        PlanMemory? plans = options.Policy is null ? null : new PlanMemory(shape, options.Needs, ledger);
        if (plans is not null)
        {
            made.Push(plans);
        }

        var counts = new CacheCounts(options.Name);
        var room = new Room(pool, plan, ledger, () => new StepMemory(tier, options.MostBatched, options.MaxBatchTokens, ledger), slabs, counts)
        {
            GiveUpCached = prefixes is null ? null : () => prefixes.Index.Evict() > 0,
        };
        made.Push(room);
        var state = new CacheState(options, classes, counts)
        {
            Device = device,
            Tier = tier,
            Ledger = ledger,
            Pool = pool,
            Room = room,
            Writer = new PageWriter(tier, deviceGate, new PageScrub(tier, deviceGate, pool, options.PoisonPages), counts) { WritesSquares = options.Needs.Has(KvStatistics.Queries) },
            Reader = new PageReader(tier, deviceGate),
            Prefixes = prefixes,
            LayerFormats = FormatPlan.TextOf(options, shape.Geometry),
            SequenceSize = plan.SequenceSize,
            DeviceGate = deviceGate,
        };
        state.Scaling = KeyScaling.Of(state);
        state.Offload = options.Offload is { } offload ? MakeOffload(state, offload, plan) : null;
        long? slabBytes = plan.Configured is { } budget ? plan.SlabBytesWithin(budget) : null;
        return (state, plans is not null ? new Pressure(state, new CacheEviction(state, plans, slabBytes)) : null);
    }

    // The slots are the cache's for as long as it lives.
    private static Offloading MakeOffload(CacheState state, KvOffload options, BudgetPlan plan)
    {
        int slotClass = state.Classes.LargestSealed;
        int[] slots = new int[plan.StagedPages];
        using (state.Pool.Gate.Enter())
        {
            state.Room.Take("pages that come back from host memory", SlotCounts.Of(slotClass, slots.Length), slots);
        }

        var room = new HostRoom(state.Tier, options.BudgetBytes);
        return new Offloading(options, state.Tier, room, new PageStage(state.Tier, state.DeviceGate, room, slots), plan.StagedBytes, state.Options.EnablePrefetch);
    }

    private static int SlabsOf(BudgetPlan plan) =>
        plan.Configured is { } budget ? plan.SlabsWithin(budget) : plan.Addressable(plan.SlabsForMaxTokens());

    /// <summary>Counts the bookkeeping of the rooms above the memory.</summary>
    public static Bookkeeping BookkeepingOf(KernelShape shape, KvCacheOptions options) => new()
    {
        Step = StepMemory.BookkeepingBytes(shape, options.MostBatched, options.MaxBatchTokens),
        Sequence = SizeOf(shape, options),
        Plan = options.Policy is null ? 0 : PlanMemory.BookkeepingBytes(shape, options.Needs),
        BlockAtMost = options.PrefixReuse ? PrefixPages.MostBytesOfBlock(shape) : 0,
        Blocks = blocks => options.PrefixReuse ? PrefixPages.BookkeepingBytes(blocks, shape) : 0,
    };

    private static SequenceSize SizeOf(KernelShape shape, KvCacheOptions options)
    {
        var map = new TableMap(shape);
        long ofPage = ((long)shape.Geometry.PageTokens * sizeof(int))
            + (options.PrefixReuse ? PrefixChain.BytesOfPage : 0)
            + (options.MergePages ? DeadTokens.BytesOfPage(shape.Geometry) : 0);
        return new SequenceSize(SequenceScores.BookkeepingBytes(shape, options.Needs), TableLeaves.BytesOfOne + (map.LeafPages * ofPage), 0, map.Leaves);
    }

    // What a tier takes beside its arena is only known once it is there: a tier of tables alone tells.
    private static TierCost CostOf(KvCacheOptions options, KernelShape shape, TierFactory createTier)
    {
        var probe = new MemoryLedger(null);
        using KernelTier tier = createTier(shape, new TableMap(shape).Bytes, probe.Add);
        using KernelBatch batch = tier.CreateBatch(options.MostBatched, options.MaxBatchTokens);
        return new TierCost(probe.Live, tier.LeafHostBytes);
    }
}
