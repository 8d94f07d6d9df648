namespace KvCacheGpu;

/// <summary>Where a page of a sequence lies.</summary>
public enum KvPagePlace
{
    /// <summary>Nowhere: a policy dropped it, or its tokens went into a later page (<see cref="KvCacheOptions.MergePages"/>).</summary>
    Gone,

    /// <summary>On the cache's device.</summary>
    Device,

    /// <summary>In host memory (<see cref="KvCacheOptions.Offload"/>), from which attention brings it back.</summary>
    Host,
}

/// <summary>One page of a layer and KV head. Thread safety: it never changes.</summary>
/// <param name="Page">Page index: first position / page tokens.</param>
/// <param name="Place">Where it lies.</param>
/// <param name="IsSealed">True if it never changes again; false for a page that is written, and for one that is gone.</param>
/// <param name="Formats">Its formats; null if it is gone.</param>
/// <param name="Mass">
/// The share of attention, 0..1, that it received from the last token of the last committed step, the mean over the query heads of its KV head; null if nobody asked, if it lies not on the device, or
/// if nothing is known (<see cref="KvSequenceReading.PageMass"/>).
/// </param>
public readonly record struct KvPageInfo(int Page, KvPagePlace Place, bool IsSealed, KvFormats? Formats, float? Mass);

/// <summary>Tells where the pages of a sequence lie and in which formats, for tools that show it. Thread safety: as that of <see cref="KvSequenceReading"/>.</summary>
public static class KvSequencePages
{
    /// <summary>Pages of each layer and KV head, those that are gone counted: tokens / page tokens, rounded up.</summary>
    /// <param name="sequence">The sequence.</param>
    public static int PageCount(this KvSequence sequence)
    {
        ArgumentNullException.ThrowIfNull(sequence);
        int pageTokens = sequence.Cache.Geometry.PageTokens;
        return (int)(((long)sequence.Length + pageTokens - 1) / pageTokens);
    }

    /// <summary>Tells of each page of a layer and KV head: all of one moment.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="layer">Layer.</param>
    /// <param name="head">KV head, counted from the first held here.</param>
    /// <param name="withMass">True for shares of attention, which are read from the device page by page; where the cache keeps none they stay null. The default value is false.</param>
    /// <returns>The pages, from the first on, <see cref="PageCount"/> of them.</returns>
    /// <exception cref="ArgumentException">Layer or head do not exist.</exception>
    /// <exception cref="KvConcurrencyException">E006: a step is under way, or another thread is inside.</exception>
    public static IReadOnlyList<KvPageInfo> ReadPages(this KvSequence sequence, int layer, int head, bool withMass = false)
    {
        ArgumentNullException.ThrowIfNull(sequence);
        int row = sequence.RowOf(layer, head);
        using SequenceGate.Call call = sequence.Enter();
        CacheState cache = sequence.Cache.State;
        KvPageInfo[] pages = new KvPageInfo[sequence.State.Table.PagesFor(sequence.State.Length)];
        for (int page = 0; page < pages.Length; page++)
        {
            pages[page] = new KvPageInfo(page, KvPagePlace.Gone, false, null, null);
        }

        float[]? mass = withMass && cache.Tier.Shape.HasStatistics ? MeanMass(sequence, layer, head) : null;

        PageTable table = sequence.State.Table;
        for (int entry = 0; entry < table.Count(row); entry++)
        {
            int page = table.PageIndex(row, entry);
            pages[page] = new KvPageInfo(
                page, KvPagePlace.Device, table.IsSealed(row, entry), cache.Classes.FormatsOf(table.PageClass(row, entry)), entry < mass?.Length ? mass[entry] : null);
        }

        foreach (HostPage away in sequence.State.Away is { } all ? all.Of(row) : default)
        {
            pages[away.Page] = new KvPageInfo(away.Page, KvPagePlace.Host, true, cache.Classes.FormatsOf(away.Class), null);
        }

        return pages;
    }

    // The mean over the query heads of a KV head, by entries of its row; null if nothing is known.
    private static float[]? MeanMass(KvSequence sequence, int layer, int head)
    {
        int group = sequence.Cache.Geometry.GroupSize;
        SequenceReader reader = new(sequence.Cache.State, sequence.State);
        float[] one = new float[sequence.State.Table.Count(sequence.RowOf(layer, head))];
        float[] mean = new float[one.Length];
        for (int query = head * group; query < (head + 1) * group; query++)
        {
            if (reader.PageMass(layer, query, one) != one.Length)
            {
                return null;
            }

            for (int entry = 0; entry < one.Length; entry++)
            {
                mean[entry] += one[entry] / group;
            }
        }

        return mean;
    }
}
