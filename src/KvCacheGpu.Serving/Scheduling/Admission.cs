namespace KvCacheGpu.Serving;

/// <summary>
/// Says if there is room for one more answer beside those that run: for the tokens that all of them will need, by what requests used lately.
/// </summary>
internal sealed class Admission(KvCache cache, KvSchedulerOptions options)
{
    // Of the newest request in the mean of what requests used.
    private const double Newest = .1;

    private readonly int _pageTokens = cache.Geometry.PageTokens;
    private readonly int _openPages = OpenPages(cache);
    private double _used = 1;

    /// <summary>The part of the tokens that requests may generate which they did generate lately.</summary>
    public double Part => options.ReservedPart ?? _used;

    /// <summary>An answer has ended by itself.</summary>
    /// <param name="part">The part of the tokens that it could have had.</param>
    public void Learn(double part) => _used += Newest * (part - _used);

    /// <summary>True if a lane has lost its place so often that it keeps it from now on.</summary>
    public bool Keeps(Lane lane) => lane.Preemptions >= options.MaxPreemptions;

    /// <summary>Tokens that a lane's sequence is going to receive: what is pending, and what it may generate, in part or in full.</summary>
    public int Need(Lane lane)
    {
        int more = Keeps(lane) ? lane.MostLeft : (int)Math.Ceiling(lane.MostLeft * Part);
        return lane.Pending + Math.Max(more, 0);
    }

    /// <summary>Returns true if there is room for what all need.</summary>
    /// <param name="running">Lanes that run.</param>
    /// <param name="candidate">One more, with the pages that it may have already.</param>
    public bool HasRoom(IReadOnlyList<Lane> running, Lane candidate)
    {
        long pages = Pages(candidate);
        foreach (Lane lane in running)
        {
            pages += Pages(lane);
        }

        return pages * _pageTokens <= cache.FreeTokens;
    }

    /// <summary>Returns true if the tenant's quota lets the lane have what it needs.</summary>
    public bool IsWithinQuota(Lane lane)
    {
        KvTenantQuota quota = cache.GetTenantUsage(lane.Run.Request.Tenant).Quota;
        return quota == KvTenantQuota.None
            || (lane.Sequence is { } sequence ? sequence.CanHold(Need(lane)) : cache.CanHold(lane.Computed + Need(lane), lane.Run.Request.Tenant));
    }

    // Open pages take more than sealed ones; each answer has one, so that its room is part of what it needs.
    private long Pages(Lane lane)
    {
        long answers = lane.Width;
        long held = (lane.Computed + _pageTokens - 1) / _pageTokens;
        long prompt = (lane.Computed + lane.Pending + _pageTokens - 1) / _pageTokens;
        long all = (lane.Computed + Need(lane) + _pageTokens - 1) / _pageTokens;
        return prompt - held + (answers * (all - prompt + _openPages));
    }

    private static int OpenPages(KvCache cache)
    {
        KvCacheOptions options = cache.Options;
        KvLayouts layouts = KvCache.LayoutsFor(cache.Geometry, options);
        int sealedBytes = layouts.Sealed.Min(layout => layout.Bytes);
        int pageTokens = cache.Geometry.PageTokens;

        // A full page stays open until as many tokens follow it as a rollback takes off exactly.
        int open = sealedBytes < layouts.Open.Bytes ? 1 + ((options.ExactRollbackTokens + pageTokens - 1) / pageTokens) : 1;
        return open * ((layouts.Open.Bytes + sealedBytes - 1) / sealedBytes);
    }
}
