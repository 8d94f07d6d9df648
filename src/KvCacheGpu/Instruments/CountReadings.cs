namespace KvCacheGpu;

/// <summary>What a cache has counted since it was made. Callers are inside of the pool's gate.</summary>
internal static class CountReadings
{
    private static readonly KvResource[] s_resources = Enum.GetValues<KvResource>();

    public static void Forgotten(MeasuredCache cache, Readings<long> to) => OfSequences(cache, to, cache.State.ForgottenCount);

    public static void Steps(MeasuredCache cache, Readings<long> to) => OfSequences(cache, to, cache.State.Counts.Steps);

    public static void Appended(MeasuredCache cache, Readings<long> to) => OfSequences(cache, to, cache.State.Counts.Appended);

    public static void Reused(MeasuredCache cache, Readings<long> to) => OfSequences(cache, to, cache.State.Counts.Reused);

    public static void Fetched(MeasuredCache cache, Readings<long> to) =>
        OfSequences(cache, to, (cache.State.Prefixes?.Below?.Fetched ?? 0) * cache.State.Geometry.PageTokens);

    public static void Evicted(MeasuredCache cache, Readings<double> to) => to.Add(TokensOf(cache, cache.State.Counts.EvictedPages), cache.Own);

    public static void Demoted(MeasuredCache cache, Readings<double> to) => to.Add(TokensOf(cache, cache.State.Counts.DemotedPages), cache.Own);

    public static void Lookups(MeasuredCache cache, Readings<long> to)
    {
        if (cache is { CountsSequences: true, State: { Prefixes: not null, Counts: { } counts } })
        {
            Add(cache, to, Tags.Result, ("hit", counts.Hits), ("miss", counts.Misses), ("refused", counts.LookupsRefused));
        }
    }

    /// <summary>Those that were fetched, and what became of them; those that were not backed up.</summary>
    public static void Blocks(MeasuredCache cache, Readings<long> to)
    {
        if (cache is { CountsSequences: true, Tiers.Counts: { } counts })
        {
            Add(cache, to, Tags.Event, ("fetched", counts.Fetched), ("late", counts.Late), ("used", counts.Used), ("wasted", counts.Wasted), ("left_out", counts.LeftOut));
        }
    }

    public static void Offload(MeasuredCache cache, Readings<long> to)
    {
        if (cache.State.Offload is { Counts: { } counts })
        {
            Add(
                cache, to, Tags.Event, ("offloaded", counts.Offloaded), ("dropped", counts.Dropped), ("fetched", counts.Fetched), ("staged", counts.Staged), ("left_out", counts.LeftOut),
                ("prefetched", counts.Prefetched), ("prefetched_used", counts.PrefetchedUsed), ("prefetched_wasted", counts.PrefetchedWasted));
        }
    }

    public static void Refusals(MeasuredCache cache, Readings<long> to)
    {
        foreach (KvResource resource in s_resources)
        {
            Add(cache, to, Tags.Resource, (Tags.Of(resource), cache.State.Counts.RefusalsOf(resource)));
        }
    }

    private static void OfSequences(MeasuredCache cache, Readings<long> to, long count)
    {
        if (cache.CountsSequences)
        {
            to.Add(count, cache.Own);
        }
    }

    private static void Add(MeasuredCache cache, Readings<long> to, string tag, params ReadOnlySpan<(string Value, long Count)> counts)
    {
        foreach ((string value, long count) in counts)
        {
            to.Add(count, [.. cache.Own, Tags.Of(tag, value)]);
        }
    }

    // Pages are of single rows.
    private static double TokensOf(MeasuredCache cache, long pages) => (double)pages * cache.State.Geometry.PageTokens / cache.Rows;
}
