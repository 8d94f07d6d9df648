namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>Reads what the live page shows.</summary>
internal sealed class LiveReader(KvServer server)
{
    // Reading holds up every answer: so many pages take a millisecond in host memory.
    private const int MostCells = 16 << 10;
    private const int MassDigits = 4;

    /// <summary>Reads all of it.</summary>
    /// <param name="caller">Who asks: answers of other tenants are left out, but for the administrator.</param>
    /// <param name="wanted">The answer whose pages are shown; null for none.</param>
    /// <param name="withMass">True for shares of attention.</param>
    public async Task<LiveSnapshot> ReadAsync(Caller caller, (long Id, int Choice)? wanted, bool withMass)
    {
        KvCache cache = server.Scheduler.Cache;
        KvServingStatus status = await server.Scheduler.GetStatusAsync().ConfigureAwait(false);
        KvAnswerStatus[] seen = [.. status.Answers.Where(one => caller.IsAdmin || one.Tenant == caller.Tenant)];
        LiveMap? map = wanted is { } choice && seen.Any(one => (one.Id, one.Choice) == choice)
            ? await server.Scheduler.ReadAsync(choice.Id, choice.Choice, sequence => MapOf(sequence, choice, withMass)).ConfigureAwait(false)
            : null;
        return new LiveSnapshot(
            server.Model.Name,
            cache.DeviceName,
            server.IsDraining,
            caller.IsAdmin,
            Memory(cache),
            Serving(status),
            [.. seen.Select(one => new LiveAnswer(one.Id, one.Choice, one.Tenant, NameOf(one.State), one.PromptTokens, one.NewTokens, one.ComputedTokens))],
            map);
    }

    private static LiveMemory Memory(KvCache cache)
    {
        KvCacheOptions options = cache.Options;
        return new LiveMemory(
            cache.AllocatedBytes,
            cache.BudgetBytes,
            cache.CachedBytes,
            cache.GetSwappedBytes(),
            cache.Watermark,
            options.Policy is not null,
            [.. cache.GetPageCounts().ByFormats.Select(one => new LiveFormat(one.Formats.ToString(), one.Open, one.Sealed, one.Bytes))],
            [.. options.Tiers.Select(tier => new LiveTier(tier.Name, tier.BytesInUse, tier.BytesLimit, tier.Counts.Read, tier.Counts.Missed, tier.Counts.Written))],
            options.Offload is null ? 0 : cache.GetOffloadCounts().Pages);
    }

    private static LiveServing Serving(KvServingStatus status)
    {
        int running = status.Answers.Count(one => one.State is KvAnswerState.Reading or KvAnswerState.Generating);
        return new LiveServing(
            status.TokensPerSecond,
            Times(status.TimeToFirstToken),
            Times(status.TimeBetweenTokens),
            status.Requests,
            status.Ended,
            status.Steps,
            status.PromptTokens,
            status.ReusedTokens,
            status.NewTokens,
            status.Preemptions,
            running,
            status.Answers.Count - running);

        static LiveTimes Times(KvPercentiles times) => new(times.Count, times.P50.TotalMilliseconds, times.P95.TotalMilliseconds);
    }

    /// <summary>The map of a sequence. On the scheduler's thread.</summary>
    internal static LiveMap MapOf(KvSequence sequence, (long Id, int Choice) choice, bool withMass)
    {
        KvGeometry geometry = sequence.Cache.Geometry;
        int rows = geometry.Layers * geometry.KvHeads;
        int count = Math.Min(sequence.PageCount(), Math.Max(1, MostCells / rows));
        int first = sequence.PageCount() - count;
        List<string> names = [];
        int[][] formats = new int[rows][];
        int[][] places = new int[rows][];
        double[][]? mass = withMass ? new double[rows][] : null;
        for (int row = 0; row < rows; row++)
        {
            (formats[row], places[row]) = (new int[count], new int[count]);
            double[]? own = mass is null ? null : mass[row] = new double[count];
            foreach (KvPageInfo page in sequence.ReadPages(row / geometry.KvHeads, row % geometry.KvHeads, withMass).Skip(first))
            {
                int at = page.Page - first;
                places[row][at] = (int)page.Place;
                formats[row][at] = page.Formats is { } pair ? IndexOf(pair.ToString()) : -1;
                if (own is not null)
                {
                    own[at] = page.Mass is { } share ? Math.Round(share, MassDigits) : -1;
                }
            }
        }

        return new LiveMap(choice.Id, choice.Choice, geometry.Layers, geometry.KvHeads, geometry.PageTokens, sequence.Length, first, names, formats, places, mass);

        int IndexOf(string name)
        {
            int index = names.IndexOf(name);
            if (index < 0)
            {
                index = names.Count;
                names.Add(name);
            }

            return index;
        }
    }

    private static string NameOf(KvAnswerState state) => state switch
    {
        KvAnswerState.Waiting => "waiting",
        KvAnswerState.Reading => "reading",
        KvAnswerState.Generating => "generating",
        _ => "preempted",
    };
}
