namespace KvCacheGpu;

/// <content>When the policy is asked, and by how much a sequence has to shrink.</content>
public sealed partial class KvCache
{
    private long _steps;
    private long _clock;
    private int[]? _windowed;

    /// <summary>Plans and what they are made in; null without a policy.</summary>
    internal EvictionPlan? Eviction { get; }

    /// <summary>Statistics that plans ask for.</summary>
    internal KvStatistics Needs => Settings.Needs;

    /// <summary>Number of the step that commits next.</summary>
    internal long NextStep => Interlocked.Read(ref _steps);

    /// <summary>Whether the step that commits next is one that pages are scored by.</summary>
    internal bool IsSampled => (Needs & (KvStatistics.Mass | KvStatistics.Queries)) != 0 && NextStep % Settings.ScoreEvery == 0;

    /// <summary>Whether a layer was attended to through a window: there it matters which positions a page is of.</summary>
    internal bool HasWindow(int layer) => _windowed is { } windowed && Volatile.Read(ref windowed[layer]) != 0;

    /// <summary>Says that a layer is attended to through a window.</summary>
    internal void NoteWindow(int layer)
    {
        if (Settings.MergePages)
        {
            Volatile.Write(ref LazyInitializer.EnsureInitialized(ref _windowed, () => new int[Geometry.Layers])[layer], 1);
        }
    }

    internal long Tick() => Interlocked.Increment(ref _clock);

    /// <summary>After a commit: brings pages down to the watermark, out of the batch's sequences, in proportion to what each can give.</summary>
    /// <param name="sequences">The step's, held by it.</param>
    /// <param name="hasSealed">Whether the step sealed pages.</param>
    internal void AfterStep(ReadOnlySpan<KvSequence> sequences, bool hasSealed)
    {
        long step = Interlocked.Increment(ref _steps);
        if (Eviction is null || Settings.Policy is not { } policy)
        {
            return;
        }

        foreach (KvSequence sequence in sequences)
        {
            sequence.LastStep = Tick();
        }

        if (!hasSealed && step % Settings.PlanEvery != 0 && !policy.ActsUnasked)
        {
            return;
        }

        long excess = Excess();
        if (excess > 0)
        {
            Share(sequences, excess, mayDemote: true, askAll: policy.ActsUnasked);
            return;
        }

        foreach (KvSequence sequence in sequences)
        {
            // A policy that remembers looks on while nothing binds.
            if (policy.ActsUnasked || sequence.Scores?.State is not null)
            {
                Eviction.Evict(sequence, 0, step);
            }
        }
    }

    /// <summary>Makes way for a step that does not fit: out of its own sequences first, then of idle ones, the least recently stepped first.</summary>
    /// <param name="sequences">The step's, held by it.</param>
    /// <param name="refusal">What it lacks.</param>
    /// <param name="round">How often that was tried before, for this step.</param>
    /// <returns>Whether anything was freed, so that it is worth asking again.</returns>
    internal bool MakeWay(ReadOnlySpan<KvSequence> sequences, in Refusal refusal, int round)
    {
        long missing = MissingBytes(refusal);
        if (Eviction is null || missing <= 0 || (round == 0 && EvictableBytes(sequences) < missing))
        {
            return false;
        }

        // Bytes that lie in slabs of another size do not help: ask for more each time.
        missing = Math.Min(missing << Math.Min(round, 16), BudgetBytes);
        bool freed = Free(sequences, missing, mayDemote: true) || Free(sequences, missing, mayDemote: false);

        // What lies scattered is moved together, so that no more has to go; only now, as a step that is refused leaves everything as it was.
        foreach (KvSequence sequence in freed ? sequences : [])
        {
            while (sequence.Compact())
            {
            }
        }

        return freed;
    }

    /// <summary>Whether evicting could make a step fit that does not, as far as bytes go.</summary>
    internal bool CouldMakeWay(ReadOnlySpan<KvSequence> sequences, in Refusal refusal) =>
        Eviction is not null && MissingBytes(refusal) is > 0 and long missing && EvictableBytes(sequences) >= missing;

    private static long MissingBytes(in Refusal refusal) => refusal.Unit == "tokens" ? 0 : Math.Max(refusal.Needed - refusal.Most, 1);

    private bool Free(ReadOnlySpan<KvSequence> sequences, long missing, bool mayDemote)
    {
        long freed = Share(sequences, missing, mayDemote, askAll: false);
        for (long after = -1; freed < missing && NextIdle(sequences, after) is { } idle;)
        {
            after = idle.LastStep;
            if (idle.TryEnterEviction())
            {
                try
                {
                    freed += Eviction!.Evict(idle, missing - freed, NextStep, mayDemote);
                }
                finally
                {
                    idle.LeaveEviction();
                }
            }
        }

        return freed > 0;
    }

    // Each gives in proportion to what it can give, the last what is left of it by rounding.
    private long Share(ReadOnlySpan<KvSequence> sequences, long bytes, bool mayDemote, bool askAll)
    {
        using var evictable = new Pooled<long>(sequences.Length);
        long all = 0;
        for (int i = 0; i < sequences.Length; i++)
        {
            evictable.Span[i] = Eviction!.Evictable(sequences[i]);
            all += evictable.Span[i];
        }

        long freed = 0;
        long left = Math.Min(bytes, all);
        for (int i = 0; i < sequences.Length; i++)
        {
            long share = all == 0 ? 0 : (long)Math.Ceiling((double)left * evictable.Span[i] / all);
            if (share > 0 || askAll)
            {
                long given = Eviction!.Evict(sequences[i], share, NextStep, mayDemote);
                freed += given;
                left = Math.Max(0, left - given);
            }

            all -= evictable.Span[i];
        }

        return freed;
    }

    // Without a configured budget nothing is held to a watermark.
    private long Excess()
    {
        if (_plan.Configured is null)
        {
            return 0;
        }

        lock (Pool.Gate)
        {
            long pages = Pool.LiveBytes;
            long room = Math.Min(BudgetBytes - (_ledger.Live - pages), _slabBytesOfBudget);
            return pages - Pool.CachedBytes - (long)(Settings.Watermark * room);
        }
    }

    // The given ones are the caller's.
    private long EvictableBytes(ReadOnlySpan<KvSequence> sequences)
    {
        long bytes = 0;
        for (int slot = 0; slot < _sequences.Length; slot++)
        {
            if (Volatile.Read(ref _sequences[slot]) is not { } sequence)
            {
                continue;
            }

            if (sequences.Contains(sequence))
            {
                bytes += Eviction!.Evictable(sequence);
            }
            else if (sequence.TryEnterEviction())
            {
                try
                {
                    bytes += Eviction!.Evictable(sequence);
                }
                finally
                {
                    sequence.LeaveEviction();
                }
            }
        }

        return bytes;
    }

    private KvSequence? NextIdle(ReadOnlySpan<KvSequence> sequences, long after)
    {
        KvSequence? next = null;
        for (int slot = 0; slot < _sequences.Length; slot++)
        {
            KvSequence? sequence = Volatile.Read(ref _sequences[slot]);
            if (sequence is not null && sequence.LastStep > after && (next is null || sequence.LastStep < next.LastStep) && !sequences.Contains(sequence))
            {
                next = sequence;
            }
        }

        return next;
    }
}
