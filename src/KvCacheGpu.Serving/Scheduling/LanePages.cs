namespace KvCacheGpu.Serving;

/// <summary>Gives lanes their pages, and takes them away again.</summary>
internal sealed class LanePages(KvCache cache, KvPreemption preemption)
{
    /// <summary>Makes a lane's sequence, with what the cache, its tiers or host memory have of its tokens. Does nothing if it has one.</summary>
    /// <exception cref="KvOutOfMemoryException">E001: there is no room; the lane is as it was.</exception>
    public void Prepare(Lane lane)
    {
        if (lane.Sequence is not null)
        {
            return;
        }

        if (lane.Swapped is { } swapped)
        {
            lane.Sequence = cache.SwapInAsync(swapped).GetAwaiter().GetResult()[0];
            lane.Swapped = null;
            swapped.Dispose();
            return;
        }

        KvRequest request = lane.Run.Request;
        KvSequence sequence = cache.CreateSequence(new KvSequenceOptions { Tenant = request.Tenant, Salt = request.Salt });
        try
        {
            sequence.Reuse(System.Runtime.InteropServices.CollectionsMarshal.AsSpan(lane.Tokens));
        }
        catch
        {
            sequence.Dispose();
            throw;
        }

        lane.Sequence = sequence;
    }

    /// <summary>Takes a lane's pages away: to host memory if that is wanted and has room, so that they come back bit for bit.</summary>
    public void TakeAway(Lane lane)
    {
        KvSequence sequence = lane.Sequence!;
        lane.Sequence = null;
        if (preemption == KvPreemption.Swap && sequence.Length > 0)
        {
            try
            {
                lane.Swapped = cache.SwapOutAsync([sequence]).GetAwaiter().GetResult();
                return;
            }
            catch (Exception e) when (e is KvOutOfMemoryException or KvUnsupportedException)
            {
                // Host memory is full, or the pages cannot be moved: they are computed again.
            }
        }

        sequence.Dispose();
    }

    /// <summary>Ends a lane's use of pages, wherever they lie.</summary>
    public static void GiveBack(Lane lane)
    {
        lane.Sequence?.Dispose();
        lane.Swapped?.Dispose();
        (lane.Sequence, lane.Swapped) = (null, null);
    }
}
