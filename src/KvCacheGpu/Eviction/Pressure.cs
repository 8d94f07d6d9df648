namespace KvCacheGpu;

/// <summary>
/// Decides when the evictor is asked, and by how much each sequence has to shrink: after steps down to the watermark, before a step that does not fit.
/// One per cache with a policy.
/// </summary>
internal sealed class Pressure : IDisposable
{
    private readonly CacheState _cache;
    private readonly KvPolicy _policy;

    /// <param name="cache">The cache.</param>
    /// <param name="own">Frees pages of the cache; disposed with this.</param>
    public Pressure(CacheState cache, CacheEviction own) => (_cache, _policy, Own, Eviction) = (cache, cache.Options.Policy!, own, own);

    /// <summary>Frees pages of this cache.</summary>
    public CacheEviction Own { get; }

    /// <summary>Frees pages where this decides that some have to go: <see cref="Own"/>, or that of the group that the cache is a part of.</summary>
    public IEviction Eviction { get; set; }

    /// <summary>Carries out what the policy says of one sequence of this cache.</summary>
    public Evictor Evictor => Own.Evictor;

    /// <summary>After a commit: brings pages down to the watermark, out of the step's sequences, in proportion to what each can give.</summary>
    /// <param name="sequences">The step's, held by it.</param>
    /// <param name="step">Steps committed.</param>
    /// <param name="hasSealed">True if the step sealed pages.</param>
    public void AfterStep(ReadOnlySpan<SequenceState> sequences, long step, bool hasSealed)
    {
        foreach (SequenceState sequence in sequences)
        {
            sequence.LastStep = _cache.Clock.Tick();
        }

        if (!hasSealed && step % _cache.Options.PlanEvery != 0 && !_policy.ActsUnasked)
        {
            return;
        }

        long excess = Eviction.Excess();
        if (excess > 0)
        {
            Share(sequences, excess, mayDemote: true, askAll: _policy.ActsUnasked);
            return;
        }

        foreach (SequenceState sequence in sequences)
        {
            // A policy that remembers looks on while nothing binds.
            if (_policy.ActsUnasked || sequence.Scores?.State is not null)
            {
                Eviction.Evict(sequence, 0, step, mayDemote: true);
            }
        }
    }

    /// <summary>Makes way for a step that does not fit: out of its own sequences first, then of idle ones, the least recently stepped first.</summary>
    /// <param name="sequences">The step's, held by it.</param>
    /// <param name="shortage">The amounts that are missing.</param>
    /// <param name="round">How often that was tried before, for this step.</param>
    /// <returns>True if anything was freed, so that it is worth asking again.</returns>
    public bool MakeWay(ReadOnlySpan<SequenceState> sequences, in KvShortage shortage, int round)
    {
        long missing = Eviction.OfWhole(MissingBytes(shortage));
        if (missing <= 0 || (round == 0 && EvictableBytes(sequences, shortage) < missing))
        {
            return false;
        }

        // Bytes that lie in slabs of another size do not help at once: ask for more each time, up to one slab more. As what is left is moved together, more would be lost for nothing.
        missing += Math.Min(missing * round, Eviction.OfWhole(_cache.Pool.SlabBytes));
        bool freed = Free(sequences, missing, shortage, mayDemote: true) || Free(sequences, missing, shortage, mayDemote: false);

        // Pages that lie scattered are moved together, so that no more have to go; only now, as a step that is refused leaves everything as it was.
        foreach (SequenceState sequence in freed ? sequences : [])
        {
            Eviction.Compact(sequence);
        }

        return freed;
    }

    /// <summary>True if evicting could make a step fit that does not, as far as bytes go.</summary>
    public bool CouldMakeWay(ReadOnlySpan<SequenceState> sequences, in KvShortage shortage) =>
        Eviction.OfWhole(MissingBytes(shortage)) is > 0 and long missing && EvictableBytes(sequences, shortage) >= missing;

    public void Dispose() => Own.Dispose();

    // Of tokens and places no eviction gives any.
    private static long MissingBytes(in KvShortage shortage) => shortage.Unit == "bytes" ? Math.Max(shortage.Missing, 1) : 0;

    // Where a tenant's quota is short, only the tenant's own sequences give.
    private static bool Gives(SequenceState sequence, in KvShortage? shortage) =>
        shortage is not { Resource: KvResource.TenantBytes } quota || sequence.Account.Name == quota.Tenant;

    private bool Free(ReadOnlySpan<SequenceState> sequences, long missing, in KvShortage shortage, bool mayDemote)
    {
        long freed = Share(sequences, missing, mayDemote, askAll: false, shortage);
        for (long after = -1; freed < missing && NextIdle(sequences, after, shortage) is { } idle;)
        {
            after = idle.LastStep;
            if (idle.Gate.TryEnterEviction())
            {
                try
                {
                    freed += Eviction.Evict(idle, missing - freed, _cache.Clock.NextStep, mayDemote);
                }
                finally
                {
                    idle.Gate.Leave();
                }
            }
        }

        return freed > 0;
    }

    // Each gives in proportion to what it can give, the last what is left of it by rounding.
    private long Share(ReadOnlySpan<SequenceState> sequences, long bytes, bool mayDemote, bool askAll, in KvShortage? shortage = null)
    {
        using var evictable = new Pooled<long>(sequences.Length);
        long all = 0;
        for (int i = 0; i < sequences.Length; i++)
        {
            evictable.Span[i] = Gives(sequences[i], shortage) ? Eviction.Evictable(sequences[i]) : 0;
            all += evictable.Span[i];
        }

        long freed = 0;
        long left = Math.Min(bytes, all);
        for (int i = 0; i < sequences.Length; i++)
        {
            long share = all == 0 ? 0 : (long)Math.Ceiling((double)left * evictable.Span[i] / all);
            if (share > 0 || askAll)
            {
                long given = Eviction.Evict(sequences[i], share, _cache.Clock.NextStep, mayDemote);
                freed += given;
                left = Math.Max(0, left - given);
            }

            all -= evictable.Span[i];
        }

        return freed;
    }

    // The given ones are the caller's.
    private long EvictableBytes(ReadOnlySpan<SequenceState> sequences, in KvShortage shortage)
    {
        long bytes = 0;
        for (int place = 0; place < _cache.Places; place++)
        {
            if (_cache.SequenceAt(place) is not { } sequence || !Gives(sequence, shortage))
            {
                continue;
            }

            if (sequences.Contains(sequence))
            {
                bytes += Eviction.Evictable(sequence);
            }
            else if (sequence.Gate.TryEnterEviction())
            {
                try
                {
                    bytes += Eviction.Evictable(sequence);
                }
                finally
                {
                    sequence.Gate.Leave();
                }
            }
        }

        return bytes;
    }

    private SequenceState? NextIdle(ReadOnlySpan<SequenceState> sequences, long after, in KvShortage shortage)
    {
        SequenceState? next = null;
        for (int place = 0; place < _cache.Places; place++)
        {
            if (_cache.SequenceAt(place) is { } sequence && sequence.LastStep > after && (next is null || sequence.LastStep < next.LastStep)
                && !sequences.Contains(sequence) && Gives(sequence, shortage))
            {
                next = sequence;
            }
        }

        return next;
    }
}
