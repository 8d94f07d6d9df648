namespace KvCacheGpu.Serving;

/// <summary>Every lane of a scheduler: those that run, those that wait, and the requests that they belong to. Knows how lanes end.</summary>
internal sealed class LaneSet(KvSchedulerOptions options, TenantShares shares, Admission admission, ServingCounts counts, Action leaveLine)
{
    private readonly List<Lane> _running = [];
    private readonly List<RequestRun> _runs = [];

    /// <summary>Lanes that have pages and are in steps, in the order of their admission.</summary>
    public IReadOnlyList<Lane> Running => _running;

    /// <summary>Lanes that wait.</summary>
    public WaitingLine Line { get; } = new(shares);

    /// <summary>Requests that have not ended.</summary>
    public IReadOnlyList<RequestRun> Runs => _runs;

    /// <summary>Answers that run, those that are not forked yet counted.</summary>
    public int Width => _running.Sum(lane => lane.Width);

    /// <summary>A request has come.</summary>
    public void Come(RequestRun run)
    {
        counts.Come();
        shares.Enter(run.Request.Tenant);
        _runs.Add(run);
        Line.Add(NewLane(run, 0));
    }

    /// <summary>An answer of a request, as it begins.</summary>
    public Lane NewLane(RequestRun run, int choice)
    {
        KvRequest request = run.Request;
        KvSampling sampling = request.Sampling.Seed is { } seed ? request.Sampling with { Seed = unchecked(seed + choice) } : request.Sampling;
        int[] prompt = [.. request.Prompt];
        return new Lane(
            run, choice, [.. prompt], new KvSampler(sampling, prompt), options.Tokenizer is { } tokenizer ? new TextStream(tokenizer, request.StopTexts) : null);
    }

    /// <summary>A lane that waited has got its pages.</summary>
    public void Start(Lane lane)
    {
        Line.Remove(lane);
        _running.Add(lane);
        if (!lane.Run.HasBegun)
        {
            Begin(lane.Run);
            lane.Charged = lane.Computed;
            counts.Reuse(lane.Computed);
            int reused = lane.Computed;
            lane.Run.Generation.Count(usage => usage with { ReusedTokens = reused });
        }
    }

    /// <summary>A fork has its pages from the start.</summary>
    public void StartFork(Lane lane) => _running.Add(lane);

    /// <summary>A lane that ran has lost its pages.</summary>
    public void Stop(Lane lane)
    {
        _running.Remove(lane);
        Line.Add(lane);
        lane.Preemptions++;
        counts.Preempt();
        lane.Run.Generation.Count(usage => usage with { Preemptions = usage.Preemptions + 1 });
    }

    /// <summary>Ends a request, whatever its answers are doing.</summary>
    public void End(RequestRun run, KvFinish finish)
    {
        int choices = run.Request.Choices;
        for (; run.Unforked > 0; run.Unforked--, run.Left--)
        {
            run.Generation.Write(new KvPiece(choices - run.Unforked, null, "", finish));
        }

        foreach (Lane lane in _running.Concat(Line.Lanes).Where(lane => lane.Run == run).ToArray())
        {
            End(lane, finish);
        }
    }

    /// <summary>Ends an answer because of a failure, and those that were to be forked of it.</summary>
    public void Fail(Lane lane, Exception failure)
    {
        lane.Run.Generation.Fail(failure);
        if (lane.Width > 1)
        {
            End(lane.Run, KvFinish.Failed);
        }
        else
        {
            End(lane, KvFinish.Failed);
        }
    }

    /// <summary>Ends an answer. Its pages are given back.</summary>
    public void End(Lane lane, KvFinish finish)
    {
        LanePages.GiveBack(lane);
        _running.Remove(lane);
        Line.Remove(lane);
        RequestRun run = lane.Run;
        run.Generation.Write(new KvPiece(lane.Choice, null, lane.Text?.End() ?? "", finish));
        if (finish is KvFinish.Stop or KvFinish.Length)
        {
            admission.Learn((double)lane.NewTokens / run.Request.MaxNewTokens);
        }

        if (--run.Left > 0)
        {
            return;
        }

        Begin(run);
        _runs.Remove(run);
        shares.Leave(run.Request.Tenant);
        counts.End(finish);
        TimeSpan time = options.Clock.GetElapsedTime(run.Submitted);
        run.Generation.Count(usage => usage with { Time = time });
        run.Generation.End();
    }

    /// <summary>Tokens were computed for a tenant. What a request that has ended still had is charged to nobody.</summary>
    public void Charge(string? tenant, int prompt, int answer) => shares.Charge(tenant, prompt, answer);

    private void Begin(RequestRun run)
    {
        if (!run.HasBegun)
        {
            run.HasBegun = true;
            leaveLine();
        }
    }
}
