using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>What a cache would be, before it is made; and what its pages are.</content>
public sealed partial class KvCache
{
    /// <summary>What a cache takes, to the byte, without reserving its arena. Asks the device for what its kernels take beside it.</summary>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="options">Options; null takes the defaults.</param>
    /// <exception cref="KvConfigurationException">E003: as on creation; a budget below the minimum names it.</exception>
    /// <exception cref="KvUnsupportedException">E009: this machine has no such device, or it cannot run the kernels.</exception>
    public static KvCacheBytes BytesFor(KvGeometry geometry, KvCacheOptions? options = null)
    {
        return BytesFor(geometry, options, TiersOn(DeviceOf(options), geometry, options));
    }

    /// <summary>How the pages of a cache are laid out.</summary>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="options">Options; null takes the defaults.</param>
    /// <exception cref="KvConfigurationException">E003: a setting is out of range or does not fit the geometry.</exception>
    public static KvLayouts LayoutsFor(KvGeometry geometry, KvCacheOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        PageClasses classes = (options ?? new KvCacheOptions()).ClassesFor(geometry);
        return new KvLayouts(
            classes.Shape.Classes[KernelShape.Open],
            [.. Enumerable.Range(0, geometry.Layers).Select(layer => classes.Shape.Classes[classes.SealedIn(layer)])]);
    }

    internal static KvCacheBytes BytesFor(KvGeometry geometry, KvCacheOptions? options, TierFactory createTier)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        options ??= new KvCacheOptions();
        PageClasses classes = options.ClassesFor(geometry);
        var plan = new BudgetPlan(classes, options, TierBytes(options, classes.Shape, createTier));
        int slabs = plan.Configured is { } budget ? plan.SlabsWithin(budget) : plan.Addressable(plan.SlabsForMaxTokens());
        long created = plan.CreatedBytes(slabs);
        return new KvCacheBytes(
            plan.Map.Bytes + (slabs * plan.Slabs.Bytes), created, plan.Configured ?? plan.Unbudgeted(slabs, created), plan.MinimumBytes);
    }

    // What a tier takes beside its arena is only known once it was there: a tier of tables alone tells.
    private static long TierBytes(KvCacheOptions options, KernelShape shape, TierFactory createTier)
    {
        var probe = new MemoryLedger(null);
        using KernelTier tier = createTier(shape, new TableMap(shape).Bytes, probe.Add);
        using KernelBatch batch = tier.CreateBatch(options.MostBatched, options.MaxBatchTokens);
        return probe.Live;
    }

    private KvPageCounts CountPages()
    {
        var found = new List<KvFormatPages>();
        for (int c = 0; c < Classes.Count; c++)
        {
            (int open, int sealedPages) = (Pool.OpenPages(c), Pool.SealedPages(c));
            if (open + sealedPages == 0)
            {
                continue;
            }

            // Open pages, and those sealed where they lie, may have one pair of formats.
            long bytes = (long)(open + sealedPages) * Classes.Shape.Classes[c].Bytes;
            int same = found.FindIndex(f => f.Formats == Classes.FormatsOf(c));
            KvFormatPages before = same < 0 ? new KvFormatPages(Classes.FormatsOf(c), 0, 0, 0) : found[same];
            KvFormatPages sum = before with { Open = before.Open + open, Sealed = before.Sealed + sealedPages, Bytes = before.Bytes + bytes };
            if (same < 0)
            {
                found.Add(sum);
            }
            else
            {
                found[same] = sum;
            }
        }

        return new KvPageCounts(Pool.OpenSlots, Pool.SealedSlots, [.. found]);
    }
}
