using System.Runtime.InteropServices;

namespace KvCacheGpu.Serving;

/// <summary>Computes one step, and gives each lane the tokens that come of it.</summary>
internal sealed class ServingStep(KvCache cache, IKvModel model, KvSchedulerOptions options, LaneSet lanes, Entrance entrance, ServingCounts counts, StepPlan plan)
{
    private readonly int _context = Math.Min(model.MaxContextTokens, cache.Options.MaxSequenceTokens ?? int.MaxValue);
    private float[] _logits = [];

    /// <summary>Runs one step of the lanes that run; if they do not fit, of those that stay.</summary>
    public void Run()
    {
        plan.Fill(lanes.Running, guess: true);
        if (!Fits())
        {
            plan.Fill(lanes.Running, guess: false);
            while (!Fits() && MakeRoom())
            {
                plan.Fill(lanes.Running, guess: false);
            }
        }

        try
        {
            Forward();
        }
        catch (KvOutOfMemoryException) when (lanes.Running.Count > 1 && entrance.SendBack(null, any: true))
        {
            // Somebody else took the room in between: once more, with one lane less.
        }
        catch (Exception failure)
        {
            RunEach(failure);
        }
    }

    private bool Fits() => cache.CanAppend(plan.Sequences, plan.Counts);

    private bool MakeRoom()
    {
        foreach (string? tenant in plan.Lanes.Select(lane => lane.Run.Request.Tenant).Distinct())
        {
            if (cache.GetTenantUsage(tenant).Quota != KvTenantQuota.None && !FitsQuota(tenant))
            {
                return entrance.ReleasePrepared() || entrance.SendBack(tenant, any: false);
            }
        }

        return entrance.ReleasePrepared() || entrance.SendBack(null, any: true);
    }

    private bool FitsQuota(string? tenant)
    {
        List<KvSequence> sequences = [];
        List<int> tokens = [];
        for (int i = 0; i < plan.Lanes.Count; i++)
        {
            if (plan.Lanes[i].Run.Request.Tenant == tenant)
            {
                sequences.Add(plan.Sequences[i]);
                tokens.Add(plan.Counts[i]);
            }
        }

        return cache.CanAppend(CollectionsMarshal.AsSpan(sequences), CollectionsMarshal.AsSpan(tokens));
    }

    // One sequence may have spoiled the step of all: each runs alone, so that only its own request fails.
    private void RunEach(Exception failure)
    {
        Lane[] all = [.. plan.Lanes];
        if (all.Length == 1)
        {
            lanes.Fail(all[0], failure);
            return;
        }

        foreach (Lane lane in all)
        {
            try
            {
                plan.Fill([lane], guess: false);
                Forward();
            }
            catch (Exception own)
            {
                lanes.Fail(lane, own);
            }
        }
    }

    private void Forward()
    {
        int vocabulary = model.VocabularySize;
        long needed = (long)plan.Rows.Length * vocabulary;
        if (_logits.Length < needed)
        {
            _logits = GC.AllocateUninitializedArray<float>(checked((int)needed));
        }

        Span<float> logits = _logits.AsSpan(0, (int)needed);
        model.Forward(plan.Sequences, plan.Ids, plan.Counts, plan.Rows, logits);
        Lane[] all = [.. plan.Lanes];
        int[] tokens = plan.Counts.ToArray();
        int[] drafts = plan.Drafts.ToArray();
        int[] ids = plan.Ids.ToArray();
        int prompt = Charge(all, tokens, drafts);
        counts.Step(prompt, ids.Length);
        int row = 0;
        int first = 0;
        for (int i = 0; i < all.Length; i++)
        {
            Lane lane = all[i];
            if (lane.Pending == -drafts[i])
            {
                ReadOnlySpan<float> own = logits.Slice(row * vocabulary, (1 + drafts[i]) * vocabulary);
                row += 1 + drafts[i];
                TakeOrFail(lane, ids.AsSpan(first + tokens[i] - drafts[i], drafts[i]), own);
            }

            first += tokens[i];
        }
    }

    private int Charge(Lane[] all, int[] tokens, int[] drafts)
    {
        int prompt = 0;
        for (int i = 0; i < all.Length; i++)
        {
            Lane lane = all[i];
            bool isAnswer = tokens[i] == 1 + drafts[i] && lane.NewTokens > 0;
            prompt += isAnswer ? 0 : tokens[i];
            int read = Math.Min(lane.Computed, lane.Run.Request.Prompt.Count);
            if (read > lane.Charged)
            {
                lanes.Charge(lane.Run.Request.Tenant, read - lane.Charged, 0);
                lane.Charged = read;
            }
        }

        return prompt;
    }

    private void TakeOrFail(Lane lane, ReadOnlySpan<int> drafts, ReadOnlySpan<float> logits)
    {
        try
        {
            Take(lane, drafts, logits);
        }
        catch (Exception failure)
        {
            // A host's tokenizer may throw, and logits may be no numbers.
            lanes.Fail(lane, failure);
        }
    }

    private void Take(Lane lane, ReadOnlySpan<int> drafts, ReadOnlySpan<float> logits)
    {
        int vocabulary = model.VocabularySize;
        Fork(lane, logits[..vocabulary]);
        int right = 0;
        int before = lane.Computed - drafts.Length;
        for (int i = 0; i <= drafts.Length; i++)
        {
            if (Accept(lane, logits.Slice(i * vocabulary, vocabulary)))
            {
                return;
            }

            if (i == drafts.Length || lane.Tokens[^1] != drafts[i])
            {
                break;
            }

            right++;
        }

        if (drafts.Length > 0)
        {
            int guessed = drafts.Length;
            lane.Run.Generation.Count(usage => usage with { DraftTokens = usage.DraftTokens + guessed, AcceptedTokens = usage.AcceptedTokens + right });
            lane.Sequence!.Truncate(before + right);
        }
    }

    // The prompt has been read: the other answers begin where this one does.
    private void Fork(Lane lane, ReadOnlySpan<float> logits)
    {
        RequestRun run = lane.Run;
        List<Lane> forks = [];
        for (; lane.Choice == 0 && run.Unforked > 0; run.Unforked--)
        {
            Lane fork = lanes.NewLane(run, run.Request.Choices - run.Unforked);
            (fork.Charged, fork.LastToken) = (fork.Tokens.Count, lane.LastToken);
            forks.Add(fork);
            try
            {
                fork.Sequence = lane.Sequence!.Fork();
                lanes.StartFork(fork);
            }
            catch (KvOutOfMemoryException)
            {
                lanes.Line.Add(fork);
            }
        }

        foreach (Lane fork in forks)
        {
            Accept(fork, logits);
        }
    }

    // Returns true if the answer has ended.
    private bool Accept(Lane lane, ReadOnlySpan<float> logits)
    {
        RequestRun run = lane.Run;
        KvRequest request = run.Request;
        int token = lane.Sampler.Next(logits);
        lane.Tokens.Add(token);
        Measure(lane);
        lanes.Charge(request.Tenant, 0, 1);
        string text = lane.Text?.Add(token) ?? "";
        run.Generation.Write(
            new KvPiece(lane.Choice, token, text, null) { Logprobs = request.TopLogprobs is { } top ? KvLogprobs.Of(logits, token, top) : null });
        bool isStop = (request.StopTokens ?? model.EndTokens).Contains(token) || lane.Text?.IsStopped == true;
        if (isStop || lane.MostLeft == 0 || lane.Tokens.Count >= _context)
        {
            lanes.End(lane, isStop ? KvFinish.Stop : KvFinish.Length);
            return true;
        }

        return false;
    }

    private void Measure(Lane lane)
    {
        RequestRun run = lane.Run;
        long now = options.Clock.GetTimestamp();
        bool isFirst = run.FirstToken is null;
        TimeSpan time = options.Clock.GetElapsedTime(isFirst ? run.Submitted : lane.LastToken, now);
        lane.LastToken = now;
        run.FirstToken ??= now;
        run.Generation.Count(usage => usage with { NewTokens = usage.NewTokens + 1, TimeToFirstToken = usage.TimeToFirstToken ?? time });
        counts.Token(time.TotalSeconds, isFirst);
    }
}
