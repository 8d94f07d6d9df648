namespace KvCacheGpu.Serving;

/// <summary>
/// Answers that wait for a place. The next one is of the highest priority; of these, of the tenant that was served least; of these, of the request that came first. One that
/// lost its place keeps its request's, and so comes before those that came later.
/// </summary>
internal sealed class WaitingLine(TenantShares shares)
{
    private readonly List<Lane> _lanes = [];

    /// <summary>The lanes, in no order.</summary>
    public IReadOnlyList<Lane> Lanes => _lanes;

    /// <summary>Adds one.</summary>
    public void Add(Lane lane) => _lanes.Add(lane);

    /// <summary>Takes one out.</summary>
    public void Remove(Lane lane) => _lanes.Remove(lane);

    /// <summary>The next one, which stays; null if there is none.</summary>
    /// <param name="blocked">Tenants that are passed over, since their quotas are full.</param>
    public Lane? Next(IReadOnlySet<string> blocked)
    {
        Lane? next = null;
        foreach (Lane lane in _lanes)
        {
            if (!blocked.Contains(lane.Run.Request.Tenant ?? "") && (next is null || IsBefore(lane, next)))
            {
                next = lane;
            }
        }

        return next;
    }

    private bool IsBefore(Lane lane, Lane other)
    {
        KvRequest a = lane.Run.Request;
        KvRequest b = other.Run.Request;
        if (a.Priority != b.Priority)
        {
            return a.Priority > b.Priority;
        }

        if (a.Tenant != b.Tenant)
        {
            double difference = shares.Of(a.Tenant) - shares.Of(b.Tenant);
            if (difference != 0)
            {
                return difference < 0;
            }
        }

        return (lane.Run.Generation.Id, lane.Choice).CompareTo((other.Run.Generation.Id, other.Choice)) < 0;
    }
}
