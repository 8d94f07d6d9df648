namespace KvCacheGpu;

/// <summary>One sequence of tokens in a <see cref="KvCacheGroup"/>: it lives in every part, and every call is for all of them.</summary>
/// <remarks>
/// Thread safety: it is used by one thread at a time, and disposed by any; different sequences may be used by different threads at once. Members that read or
/// change pages throw <see cref="KvConcurrencyException"/> while a step is under way or another thread is inside, and all but <see cref="Dispose"/> throw
/// <see cref="ObjectDisposedException"/> after disposal. One that is not disposed gives its memory back some time after the last reference to it is gone.
/// </remarks>
public sealed class KvGroupSequence : IDisposable
{
    private readonly SequenceState[] _states;

    private KvGroupSequence(KvCacheGroup group, SequenceState[] states)
    {
        (Group, _states) = (group, states);
        Handles = [.. states.Select((state, part) => new KvSequence(group.Caches[part], state))];
    }

    /// <summary>The group that the sequence lives in.</summary>
    public KvCacheGroup Group { get; }

    /// <summary>The number of the sequence, by which errors name it: from 1 on, and never another's in the same group.</summary>
    public long Id => First.Id;

    /// <summary>Whose the sequence is; forks inherit it.</summary>
    public KvSequenceOptions Options => First.Options;

    /// <summary>Tokens, dropped ones counted; without those of a step that has not been committed.</summary>
    public int Length => Handles[0].Length;

    /// <inheritdoc cref="KvSequence.TokenIds"/>
    public ReadOnlySpan<int> TokenIds => Handles[0].TokenIds;

    /// <summary>Tokens that a policy dropped: the mean over the layers and KV heads of the whole model.</summary>
    public double EvictedTokens
    {
        get
        {
            using Call call = Enter();
            double sum = 0;
            for (int part = 0; part < _states.Length; part++)
            {
                sum += new SequenceReader(Group.Caches[part].State, _states[part]).EvictedTokens() * Group.Shape.RowsOf(part);
            }

            return sum / Group.Shape.Rows;
        }
    }

    /// <summary>Bytes of the pages that the sequence lists in all parts; pages shared with forks count fully in each.</summary>
    public long AllocatedBytes
    {
        get
        {
            using Call call = Enter();
            long bytes = 0;
            for (int part = 0; part < _states.Length; part++)
            {
                bytes += Group.Caches[part].State.Pool.BytesOf(_states[part].Table.ListedPages());
            }

            return bytes;
        }
    }

    /// <inheritdoc cref="KvSequence.Name"/>
    public string? Name
    {
        get => Handles[0].Name;
        set
        {
            foreach (KvSequence part in Handles)
            {
                part.Name = value;
            }
        }
    }

    /// <inheritdoc cref="KvSequence.Metadata"/>
    public IReadOnlyDictionary<string, string> Metadata
    {
        get => Handles[0].Metadata;
        set => Handles[0].Metadata = value;
    }

    /// <inheritdoc cref="KvSequence.PositionRuns"/>
    public IReadOnlyList<long>? PositionRuns
    {
        get => Handles[0].PositionRuns;
        set => Handles[0].PositionRuns = value;
    }

    /// <summary>The sequence in each part. While one is reachable, it is not given back.</summary>
    internal KvSequence[] Handles { get; }

    /// <summary>The sequence in the first part, which stands for all.</summary>
    internal SequenceState First => _states[0];

    /// <summary>Begins a step of this sequence alone. See <see cref="KvCacheGroup.Begin"/>.</summary>
    /// <param name="tokenIds">Ids of the tokens, 1 to <see cref="KvCacheOptions.MaxBatchTokens"/> of them.</param>
    /// <param name="streams">For each part the stream that its work is enqueued on; empty, the default, takes each device's default stream.</param>
    /// <returns>The step, until it is committed or disposed.</returns>
    /// <exception cref="KvOutOfMemoryException">E001: a part has no room, also after the policy evicted what it may; the tokens have changed nothing.</exception>
    /// <exception cref="ArgumentException">No tokens, or too many for one step.</exception>
    public KvGroupStep Begin(ReadOnlySpan<int> tokenIds, ReadOnlySpan<KvStream> streams = default) => Group.Begin([this], tokenIds, [tokenIds.Length], streams);

    /// <summary>
    /// Begins an empty sequence with the resident pages of the longest prefix that all parts have of a sequence of the same tenant, adapter and salt. See
    /// <see cref="KvSequence.Reuse"/>.
    /// </summary>
    /// <param name="promptIds">Token ids of the prompt; the last one is never reused.</param>
    /// <returns>Tokens now in the sequence: the least that a part has.</returns>
    /// <exception cref="KvStepOrderException">E010: the sequence is not empty.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: no room in the tenant's quota; the sequence stays empty.</exception>
    public int Reuse(ReadOnlySpan<int> promptIds)
    {
        using Call call = Enter();
        if (Length > 0)
        {
            throw new KvStepOrderException("Reuse", "an empty sequence", $"{Length} tokens");
        }

        int unknown = promptIds.IndexOfAnyInRange(int.MinValue, -1);
        int most = Math.Min((unknown < 0 ? promptIds.Length : unknown + 1) - 1, Group.Caches[0].State.MaxSequenceTokens);
        bool agree = First.Chain is null;
        try
        {
            // A part that gave up pages by itself has less than the others: all begin again with as much.
            while (!agree && most > 0)
            {
                for (int part = 0; part < _states.Length && most > 0; part++)
                {
                    most = Math.Min(most, new SequencePrefix(Group.Caches[part].State, Group.Caches[part].Life, Group.Caches[part].Tiers).Reuse(_states[part], promptIds[..most]));
                }

                agree = Array.TrueForAll(_states, state => state.Length == most);
                if (!agree)
                {
                    CutToNothing();
                }
            }
        }
        catch
        {
            CutToNothing();
            throw;
        }

        return Length;
    }

    /// <summary>Makes a sequence of the same tokens that shares every page; a page is copied when one of the sharers writes on in it.</summary>
    /// <exception cref="KvOutOfMemoryException">E001: <see cref="KvCacheOptions.MaxSequences"/> live already, or a part has no room for the fork's tables; no part has one more.</exception>
    public KvGroupSequence Fork()
    {
        // The first part alone, so that the policy may make way in all of them.
        using SequenceGate.Call call = Handles[0].Enter();
        KvGroupSequence fork = OfHeld(Group, part =>
        {
            if (part == 0)
            {
                return Group.Caches[0].Life.Fork(First);
            }

            using SequenceGate.Call own = Handles[part].Enter();
            return Group.Caches[part].Life.Fork(_states[part]);
        });
        GC.KeepAlive(this);
        return fork;
    }

    /// <summary>Takes tokens off the end in every part. See <see cref="KvSequence.Truncate"/>.</summary>
    /// <param name="length">Tokens to keep, 0 to <see cref="Length"/>.</param>
    /// <returns>Tokens that are left, and the pages of all parts that have to be encoded again when the sequence grows.</returns>
    public KvTruncation Truncate(int length)
    {
        using Call call = Enter();
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, Length);
        int reencoded;
        bool isShorter;
        do
        {
            (reencoded, isShorter) = (0, false);
            for (int part = 0; part < _states.Length; part++)
            {
                if (_states[part].Length > length)
                {
                    // A part that dropped the page of the cut is cut before it: then all are.
                    KvTruncation cut = SequenceCut.Run(Group.Caches[part].State, _states[part], length);
                    (reencoded, isShorter, length) = (reencoded + cut.ReencodedPages, isShorter || cut.Length < length, cut.Length);
                }
            }
        }
        while (isShorter);

        return new KvTruncation(length, reencoded);
    }

    /// <inheritdoc cref="KvSequence.Pin"/>
    public void Pin(int start, int length)
    {
        using Call call = Enter();
        ThrowIfNotHeld(start, length);
        foreach (SequenceState state in _states)
        {
            state.Pins.Add(start, start + length);
        }
    }

    /// <inheritdoc cref="KvSequence.Unpin"/>
    public void Unpin(int start, int length)
    {
        using Call call = Enter();
        ThrowIfNotHeld(start, length);
        foreach (SequenceState state in _states)
        {
            state.Pins.Remove(start, start + length);
        }
    }

    /// <inheritdoc cref="KvSequence.MarkSegment"/>
    public void MarkSegment()
    {
        using Call call = Enter();
        foreach (SequenceState state in _states)
        {
            state.MarkSegment();
        }
    }

    /// <summary>Counts the resident tokens of a layer and KV head.</summary>
    /// <param name="layer">Layer of the whole model.</param>
    /// <param name="head">KV head, counted from the first of <see cref="KvCacheGroup.Geometry"/>.</param>
    /// <exception cref="ArgumentOutOfRangeException">No such layer or head.</exception>
    public int ResidentTokens(int layer, int head)
    {
        Guard.ThrowIfOutside(layer, Group.Geometry.Layers, nameof(layer));
        Guard.ThrowIfOutside(head, Group.Geometry.KvHeads, nameof(head));
        int row = (layer * Group.Geometry.KvHeads) + head;
        using Call call = Enter();
        return _states[Group.Shape.PartOf(row)].Table.ResidentTokens(Group.Shape.OwnRow(row));
    }

    /// <summary>
    /// Gives back every page in every part, from any thread. Waits for calls of other threads that are inside. A step under way ends without a trace, for all its
    /// sequences.
    /// </summary>
    /// <exception cref="KvConcurrencyException">E006: called from inside of a call on the sequence, as a policy could; nothing was disposed.</exception>
    public void Dispose()
    {
        lock (Group.Ends)
        {
            KvCacheGroup.DisposeEach(Handles);
        }
    }

    /// <summary>Makes a sequence whose parts are held until all are there, so that nobody meets half of it.</summary>
    /// <param name="group">The group.</param>
    /// <param name="make">Makes it in one part, held.</param>
    internal static KvGroupSequence OfHeld(KvCacheGroup group, Func<int, SequenceState> make)
    {
        var states = new SequenceState[group.Caches.Length];
        int made = 0;
        try
        {
            for (; made < states.Length; made++)
            {
                states[made] = make(made);
            }
        }
        catch
        {
            for (int part = made - 1; part >= 0; part--)
            {
                group.Caches[part].Life.DisposeHeld(states[part]);
            }

            throw;
        }

        states[0].Parts = states;
        for (int part = states.Length - 1; part >= 0; part--)
        {
            states[part].IsHandedOut = true;
            states[part].Gate.Leave();
        }

        return new KvGroupSequence(group, states);
    }

    /// <summary>The handle of a sequence that a load has made.</summary>
    internal static KvGroupSequence Of(KvCacheGroup group, SequenceState first) => new(group, first.Parts);

    internal void ThrowIfDisposed() => Handles[0].ThrowIfDisposed();

    // Enters every part, the first one first.
    private Call Enter()
    {
        int entered = 0;
        try
        {
            for (; entered < _states.Length; entered++)
            {
                _states[entered].Gate.EnterCall();
            }

            return new Call(this);
        }
        catch
        {
            Leave(entered);
            throw;
        }
    }

    private void Leave(int end)
    {
        for (int part = end - 1; part >= 0; part--)
        {
            _states[part].Gate.Leave();
        }
    }

    private void CutToNothing()
    {
        for (int part = 0; part < _states.Length; part++)
        {
            if (_states[part].Length > 0)
            {
                SequenceCut.Run(Group.Caches[part].State, _states[part], 0);
            }
        }
    }

    private void ThrowIfNotHeld(int start, int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(start);
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan((long)start + length, Length, nameof(length));
    }

    /// <summary>Being inside of every part for one call.</summary>
    private readonly ref struct Call(KvGroupSequence sequence)
    {
        public void Dispose()
        {
            sequence.Leave(sequence._states.Length);
            GC.KeepAlive(sequence);
        }
    }
}
