namespace KvCacheGpu.Serving;

/// <summary>Lets waiting lanes in while there is room, and sends running ones back where there is none.</summary>
internal sealed class Entrance(LaneSet lanes, LanePages pages, Admission admission, int maxConcurrency)
{
    private readonly HashSet<string> _blocked = new(StringComparer.Ordinal);

    /// <summary>
    /// Admits the next lanes in line. The first one without room holds up all others, so that long prompts are not passed by short ones for ever; only a tenant's full quota
    /// holds up that tenant alone.
    /// </summary>
    public void Admit()
    {
        _blocked.Clear();
        while (lanes.Line.Next(_blocked) is { } lane)
        {
            bool isIn = lanes.Width + lane.Width <= maxConcurrency && TryStart(lane);
            if (!isIn && lanes.Line.Next(_blocked) == lane && !MakeWay(lane))
            {
                break;
            }
        }
    }

    /// <summary>Takes back what waits with pages of its own; returns false if nothing does.</summary>
    public bool ReleasePrepared()
    {
        Lane? prepared = lanes.Line.Lanes.FirstOrDefault(lane => lane.Sequence is not null);
        if (prepared is not null)
        {
            pages.TakeAway(prepared);
        }

        return prepared is not null;
    }

    /// <summary>
    /// Sends a running lane back, so that the others have room: one of the lowest priority, of these the one whose request came last, so that the first always goes on. One that was
    /// sent back too often keeps its place while others run.
    /// </summary>
    /// <param name="tenant">Whose lane it has to be, if not <paramref name="any"/>.</param>
    /// <param name="any">True for any tenant's.</param>
    /// <returns>False if only one lane could be, which goes on.</returns>
    public bool SendBack(string? tenant, bool any)
    {
        Lane[] candidates = [.. lanes.Running.Where(lane => any || lane.Run.Request.Tenant == tenant)];
        if (candidates.Length < 2)
        {
            return false;
        }

        Lane victim = candidates
            .OrderBy(admission.Keeps)
            .ThenBy(lane => lane.Run.Request.Priority)
            .ThenByDescending(lane => lane.Run.Generation.Id)
            .ThenByDescending(lane => lane.Choice)
            .First();
        SendBack(victim);
        return true;
    }

    private void SendBack(Lane lane)
    {
        pages.TakeAway(lane);
        lanes.Stop(lane);
    }

    // For a higher priority alone: among equals, who runs goes on.
    private bool MakeWay(Lane lane)
    {
        Lane? victim = lanes.Running
            .Where(other => other.Run.Request.Priority < lane.Run.Request.Priority && !admission.Keeps(other))
            .OrderBy(other => other.Run.Request.Priority)
            .ThenByDescending(other => other.Run.Generation.Id)
            .FirstOrDefault();
        if (victim is null)
        {
            return false;
        }

        SendBack(victim);
        return true;
    }

    private bool TryStart(Lane lane)
    {
        string? tenant = lane.Run.Request.Tenant;
        bool isFirst = lanes.Running.Count == 0;
        try
        {
            pages.Prepare(lane);
        }
        catch (KvOutOfMemoryException refusal) when (refusal.Shortage.Resource is KvResource.TenantBytes or KvResource.TenantTokens)
        {
            return BlockOrFail(lane, refusal);
        }
        catch (KvOutOfMemoryException refusal)
        {
            if (isFirst && !ReleasePrepared())
            {
                LeaveSwap(lane, refusal);
            }

            return false;
        }

        if (!admission.IsWithinQuota(lane) && lanes.Running.Any(other => other.Run.Request.Tenant == tenant))
        {
            _blocked.Add(tenant ?? "");
            return false;
        }

        if (!isFirst && !admission.HasRoom(lanes.Running, lane))
        {
            return false;
        }

        lanes.Start(lane);
        return true;
    }

    private bool BlockOrFail(Lane lane, KvOutOfMemoryException refusal)
    {
        if (lanes.Running.Any(other => other.Run.Request.Tenant == lane.Run.Request.Tenant))
        {
            _blocked.Add(lane.Run.Request.Tenant ?? "");
        }
        else if (!ReleasePrepared())
        {
            lanes.Fail(lane, refusal);
        }

        return false;
    }

    // Alone and without room: its pages are computed again where they lay in host memory, as that needs less at once; else it cannot be.
    private void LeaveSwap(Lane lane, KvOutOfMemoryException refusal)
    {
        if (lane.Swapped is null)
        {
            lanes.Fail(lane, refusal);
            return;
        }

        LanePages.GiveBack(lane);
    }
}
