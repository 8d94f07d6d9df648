using System.Runtime.ExceptionServices;

namespace KvCacheGpu;

/// <summary>How sequences of a cache come and go: made empty, forked, disposed.</summary>
internal sealed class SequenceLife(CacheState cache, Pressure? pressure)
{
    private const string Forking = "a fork";

    /// <summary>Makes an empty sequence.</summary>
    /// <param name="options">Whose it is, and what its prefixes are shared within.</param>
    /// <param name="isHeld">True if it begins inside of a call, so that no plan and no snapshot sees it half made.</param>
    /// <exception cref="KvOutOfMemoryException">E001: too many sequences live, or no room for its bookkeeping.</exception>
    public SequenceState Create(KvSequenceOptions options, bool isHeld) => Create(options, isHeld, "a new sequence");

    /// <summary>Refuses before the first of several sequences is made what there is no room for in the end.</summary>
    /// <exception cref="KvOutOfMemoryException">E001: there is no place, or no room for the bookkeeping, for so many sequences more.</exception>
    public void ThrowIfNoRoomFor(int sequences, string what)
    {
        Reclaim(sequences, what);
        using (cache.EnterLive())
        {
            ThrowIfNone(sequences, what);
        }
    }

    /// <summary>Makes a sequence of the same tokens that shares every page. The sequence is the caller's; so is the fork.</summary>
    /// <exception cref="KvOutOfMemoryException">E001: as for an empty one.</exception>
    public SequenceState Fork(SequenceState sequence)
    {
        // Held until it is whole: a save of all that live must not meet it before.
        SequenceState fork = Create(sequence.Options, isHeld: true, Forking);
        try
        {
            cache.Scaling?.Share(sequence, fork);
            SharePages(fork, sequence);
            fork.CopyFrom(sequence);
            if (fork.Scores is not null && pressure is not null)
            {
                using (pressure.Evictor.Memory.Gate.Enter())
                using (cache.DeviceGate.Enter())
                {
                    fork.Scores.ShareWith(sequence.Scores!, sequence.Table.Leaves, pressure.Evictor.Memory.LeafScores);
                }
            }

            return fork;
        }
        catch
        {
            DisposeHeld(fork);
            throw;
        }
    }

    // Tables are the fork's own: where they find no room, a policy may make way.
    private void SharePages(SequenceState fork, SequenceState sequence)
    {
        for (int round = 0; ; round++)
        {
            KvShortage lack;
            using (cache.Pool.Gate.Enter())
            {
                KvShortage? quota = TenantRoom.WhyNot(cache, fork.Account, Forking, cache.Pool.BytesOf(sequence.Table.ListedPages()), sequence.Length);
                if ((quota ?? MakeRoom(fork, sequence.Length, Forking)) is not { } shortage)
                {
                    fork.Table.ShareWith(sequence.Table);
                    fork.Chain?.ShareWith(sequence.Chain!);
                    fork.Away?.ShareWith(sequence.Away!);
                    return;
                }

                lack = shortage with { Sequence = sequence.Id };
            }

            // Steps that wait for their outcome hold pages twice, also of the tenant's.
            if (cache.Unsettled.SettleAll())
            {
                ForgottenSequences.Reclaim(cache);
            }
            else if (lack.Resource is KvResource.TenantBytes or KvResource.TenantTokens || pressure?.MakeWay([sequence], lack, round) != true)
            {
                throw cache.Counts.Refuse(lack);
            }
        }
    }

    /// <summary>Makes room in the table of an empty sequence for pages that are not its own yet, and for all that goes with them. The caller is inside of the pool's gate.</summary>
    /// <param name="sequence">The sequence, the caller's.</param>
    /// <param name="tokens">Tokens that it will have.</param>
    /// <param name="what">What it is for, for the message.</param>
    /// <returns>What is missing; then nothing has changed. Null if the room was made.</returns>
    public KvShortage? MakeRoom(SequenceState sequence, int tokens, string what)
    {
        PageTable table = sequence.Table;
        int leaves = table.LeavesFor(tokens) - table.Leaves;
        if (leaves <= 0)
        {
            return null;
        }

        using var slots = new Pooled<int>(leaves);
        long bytes = cache.SequenceSize.Bytes(table.Leaves + leaves) - cache.SequenceSize.Bytes(table.Leaves);
        if (cache.Room.TakeOrRefuse(what, SlotCounts.Of(SlotCounts.Leaf, leaves), slots.Span[..leaves], leavesSpare: true, bytes) is { } shortage)
        {
            return shortage;
        }

        int before = table.Leaves;
        try
        {
            sequence.Resize(tokens);
            foreach (int slot in slots.Span[..leaves])
            {
                table.AddLeaf(cache.Writer.Ready(slot, SlotCounts.Leaf, table.Owner));
            }
        }
        catch
        {
            // Those that were opened go with the table.
            cache.Pool.Release(slots.Span[(table.Leaves - before)..leaves]);
            throw;
        }

        return null;
    }

    /// <summary>Gives back every page, and the place in the cache. Waits for who is inside; a step under way ends without a trace.</summary>
    /// <exception cref="KvConcurrencyException">E006: the calling thread is inside of a call on it; nothing was disposed.</exception>
    public void Dispose(SequenceState sequence) => Close(sequence)?.Throw();

    // Returns what failed beside it, where the sequence is disposed all the same: the device, or a policy that was asked.
    private ExceptionDispatchInfo? Close(SequenceState sequence)
    {
        ThrowIfInside(sequence);
        var wait = default(SpinWait);
        ExceptionDispatchInfo? failure = null;
        bool? isMine;
        while ((isMine = sequence.Gate.TryEnterDisposal()) is null)
        {
            try
            {
                sequence.Holder?.Abandon(sequence);
            }
            catch (Exception e)
            {
                failure ??= ExceptionDispatchInfo.Capture(e);
            }

            wait.SpinOnce();
        }

        if (isMine.Value)
        {
            GiveBack(cache, sequence);
        }

        return failure;
    }

    /// <summary>Disposes a sequence that was made held and that nobody else has seen.</summary>
    public void DisposeHeld(SequenceState sequence)
    {
        sequence.Gate.LeaveDisposed();
        GiveBack(cache, sequence);
    }

    /// <summary>Disposes every sequence; another thread may be disposing some of them as well.</summary>
    /// <returns>The first error of a policy or of the device that came up; the sequences are disposed all the same.</returns>
    public ExceptionDispatchInfo? DisposeAll()
    {
        var wait = default(SpinWait);
        ExceptionDispatchInfo? failure = null;
        for (int place = 0; place < cache.Places;)
        {
            if (cache.SequenceAt(place) is { } sequence)
            {
                ExceptionDispatchInfo? own = Close(sequence);
                failure ??= own;
                wait.SpinOnce();
            }
            else
            {
                place++;
            }
        }

        return failure;
    }

    /// <exception cref="KvConcurrencyException">E006: the calling thread is inside of a call on a sequence.</exception>
    public void ThrowIfInsideAny()
    {
        for (int place = 0; place < cache.Places; place++)
        {
            if (cache.SequenceAt(place) is { } sequence)
            {
                ThrowIfInside(sequence);
            }
        }
    }

    private static void ThrowIfInside(SequenceState sequence)
    {
        sequence.Gate.ThrowIfInside();
        sequence.Holder?.ThrowIfInside();
    }

    private SequenceState Create(KvSequenceOptions options, bool isHeld, string what)
    {
        ArgumentNullException.ThrowIfNull(options);
        RetentionMap? retention = options.Retention is null ? null : new RetentionMap(options.Retention);
        BlockHash root = cache.Prefixes is null ? default : cache.NamespaceOf(options, null).ToHash();
        Reclaim(1, what);

        // The policy's own code: it may throw, or use the cache, so that no gate is held.
        object? policyState = cache.Options.Policy?.CreateState(cache.Geometry);
        using (cache.Pool.Gate.Enter())
        {
            cache.ThrowIfDisposed();
            ThrowIfNone(1, what);
            cache.Room.MakeRoom(default, cache.SequenceSize.Fixed);
            return Make(options, root, retention, policyState, cache.FreePlace(), isHeld);
        }
    }

    // What nobody uses any longer, and what steps hold that are done.
    private void Reclaim(int sequences, string what)
    {
        cache.Unsettled.SettleDone();
        ForgottenSequences.Reclaim(cache);
        if (cache.Unsettled.Any && Lacking() && cache.Unsettled.SettleAll())
        {
            ForgottenSequences.Reclaim(cache);
        }

        bool Lacking()
        {
            using (cache.EnterLive())
            {
                return WhyNone(sequences, what) is not null;
            }
        }
    }

    private KvShortage? WhyNone(int sequences, string what)
    {
        int places = cache.FreePlaces();
        return sequences > places
            ? new KvShortage(what, KvResource.Sequences, sequences, places) : cache.Room.WhyNotBytes(what, sequences * cache.SequenceSize.Fixed);
    }

    private void ThrowIfNone(int sequences, string what)
    {
        if (WhyNone(sequences, what) is { } lack)
        {
            throw cache.Counts.Refuse(lack);
        }
    }

    private SequenceState Make(KvSequenceOptions options, BlockHash root, RetentionMap? retention, object? policyState, int place, bool isHeld)
    {
        KvCacheOptions settings = cache.Options;
        PrefixChain? chain = null;
        PageTable? table = null;
        SequenceScores? scores = null;
        TenantAccount account = cache.Tenants.Of(options.Tenant);
        try
        {
            chain = cache.Prefixes is null ? null : new PrefixChain(cache.Prefixes, cache.Tier.Shape, root, retention, cache.Ledger);
            scores = settings.Policy is null ? null : new SequenceScores(cache.Tier, policyState, cache.Needs, place, cache.Ledger);
            DeadTokens? dead = settings.MergePages ? new DeadTokens(cache.Geometry, cache.Ledger) : null;
            table = new PageTable(cache.Tier, cache.Classes, cache.Pool, place, account.Number, dead, cache.Ledger);
            var sequence = new SequenceState(options, table, cache.SequenceSize, cache.Geometry.Layers, cache.Ledger)
            {
                Id = cache.NextSequenceId(),
                Account = account,
                Chain = chain,
                Scores = scores,
                Away = cache.Offload is { } offload ? new AwayPages(offload.Room, table.Rows) : null,
                LastStep = cache.Clock.Tick(),
                IsHandedOut = !isHeld,
            };
            if (isHeld)
            {
                sequence.Gate.EnterCall();
            }

            cache.Seat(place, sequence);
            account.Sequences++;
            return sequence;
        }
        catch
        {
            chain?.Dispose();
            table?.Dispose();
            scores?.Dispose();
            throw;
        }
    }

    /// <summary>Gives back all that a sequence holds, whose gate the caller has entered for good.</summary>
    /// <remarks>
    /// The place in the cache is emptied last: a thread that finds it empty may free the memory that sequences lie in. It is emptied whatever fails,
    /// so that nobody waits for it in vain.
    /// </remarks>
    public static void GiveBack(CacheState cache, SequenceState sequence)
    {
        using (cache.Pool.Gate.Enter())
        {
            try
            {
                sequence.Table.CutTo(0);
                sequence.Away?.CutTo(0);
                cache.Scaling?.Leave(sequence.Table);
                sequence.Dispose();
            }
            finally
            {
                cache.Seat(sequence.Table.Sequence, null);
                sequence.Account.Sequences--;
            }
        }
    }
}
