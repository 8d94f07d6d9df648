namespace KvCacheGpu;

/// <summary>How sequences of a cache come and go: made empty, forked, begun with a prefix, cut, disposed.</summary>
internal sealed class SequenceLife(CacheState cache, Evictor? evictor)
{
    /// <summary>Makes an empty sequence.</summary>
    /// <param name="options">Whose it is, and what its prefixes are shared within.</param>
    /// <param name="isHeld">True if it begins inside of a call, so that no plan and no snapshot sees it half made.</param>
    /// <exception cref="KvOutOfMemoryException">E001: too many sequences live, or no room for its bookkeeping.</exception>
    public SequenceState Create(KvSequenceOptions options, bool isHeld)
    {
        ArgumentNullException.ThrowIfNull(options);
        RetentionMap? retention = options.Retention is null ? null : new RetentionMap(options.Retention);
        BlockHash root = cache.Prefixes is null ? default : NamespaceOf(options).ToHash();

        ForgottenSequences.Reclaim(cache);

        // The policy's own code: it may throw, or use the cache, so that no gate is held.
        object? policyState = cache.Options.Policy?.CreateState(cache.Geometry);
        using (cache.Pool.Gate.Enter())
        {
            cache.ThrowIfDisposed();
            int place = cache.FreePlace();
            if (place < 0)
            {
                throw new KvOutOfMemoryException("sequence", $"at most {cache.Places} live", "one more");
            }

            if (cache.Room.WhyNot("bookkeeping of a sequence", default, cache.SequenceBytes) is { } refusal)
            {
                throw refusal.ToException();
            }

            cache.Room.MakeRoom(default, cache.SequenceBytes);
            return Make(options, root, retention, policyState, place, isHeld);
        }
    }

    /// <summary>The namespace that a sequence's prefixes are shared within.</summary>
    public PrefixNamespace NamespaceOf(KvSequenceOptions options) => new()
    {
        ModelFingerprint = cache.Options.ModelFingerprint,
        Adapter = options.Adapter,
        Tenant = options.Tenant,
        Salt = options.Salt,
        KeyFormat = cache.Options.KeyFormat,
        ValueFormat = cache.Options.ValueFormat,
        LayerFormats = cache.LayerFormats,
        RotationSeed = cache.Options.RotationSeed,
        PageTokens = cache.Geometry.PageTokens,
    };

    /// <summary>Makes a sequence of the same tokens that shares every page. The sequence is the caller's; so is the fork.</summary>
    /// <exception cref="KvOutOfMemoryException">E001: as for an empty one.</exception>
    public SequenceState Fork(SequenceState sequence)
    {
        // Held until it is whole: a save of all that live must not meet it before.
        SequenceState fork = Create(sequence.Options, isHeld: true);
        try
        {
            using (cache.Pool.Gate.Enter())
            {
                fork.Table.ShareWith(sequence.Table);
                fork.Chain?.ShareWith(sequence.Chain!);
            }

            fork.CopyFrom(sequence);
            if (fork.Scores is not null && evictor is not null)
            {
                using (evictor.Memory.Gate.Enter())
                using (cache.DeviceGate.Enter())
                {
                    fork.Scores.ShareWith(sequence.Scores!, cache.Geometry.PagesFor(sequence.Length), evictor.Memory.RowScores);
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

    /// <summary>Begins an empty sequence with the resident pages of the longest prefix of token ids. The sequence is the caller's.</summary>
    /// <returns>Tokens that it has now.</returns>
    public int Reuse(SequenceState sequence, ReadOnlySpan<int> ids)
    {
        int tokens;
        using (cache.Pool.Gate.Enter())
        {
            tokens = sequence.Chain!.Reuse(ids, sequence.Table);
        }

        // The ids' places follow the length that it had.
        sequence.SetTokenIds(ids[..tokens]);
        if (sequence.Scores is not null)
        {
            using (cache.DeviceGate.Enter())
            {
                cache.Tier.ClearScores(sequence.Table.Sequence);
            }
        }

        sequence.Attended.Clear();
        return tokens;
    }

    /// <summary>Takes tokens off the end. The sequence is the caller's.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="length">Tokens to keep, fewer than there are.</param>
    /// <returns>Tokens that are left, and the pages that have to be encoded again when the sequence grows.</returns>
    public KvTruncation Cut(SequenceState sequence, int length)
    {
        PageTable table = sequence.Table;
        int pageTokens = cache.Geometry.PageTokens;
        int cut = EndsInWrittenPages(table, length) ? length : length / pageTokens * pageTokens;
        int reencoded = ReencodedPagesAt(table, cut);
        using (cache.Pool.Gate.Enter())
        {
            table.CutTo(cut);
            sequence.Chain?.CutTo(cut / pageTokens);
        }

        sequence.ForgetFrom(cut);
        sequence.Attended.Clear();
        return new KvTruncation(cut, reencoded);
    }

    /// <summary>Gives back every page, and the place in the cache. Waits for who is inside; a step under way ends without a trace.</summary>
    /// <exception cref="KvConcurrencyException">E006: the calling thread is inside of a call on it; nothing was disposed.</exception>
    public void Dispose(SequenceState sequence)
    {
        ThrowIfInside(sequence);
        var wait = default(SpinWait);
        bool? isMine;
        while ((isMine = sequence.Gate.TryEnterDisposal()) is null)
        {
            sequence.Holder?.Abandon();
            wait.SpinOnce();
        }

        if (isMine.Value)
        {
            GiveBack(cache, sequence);
        }
    }

    /// <summary>Disposes a sequence that was made held and that nobody else has seen.</summary>
    public void DisposeHeld(SequenceState sequence)
    {
        sequence.Gate.LeaveDisposed();
        GiveBack(cache, sequence);
    }

    /// <summary>Disposes every sequence; another thread may be disposing some of them as well.</summary>
    public void DisposeAll()
    {
        var wait = default(SpinWait);
        for (int place = 0; place < cache.Places;)
        {
            if (cache.SequenceAt(place) is { } sequence)
            {
                Dispose(sequence);
                wait.SpinOnce();
            }
            else
            {
                place++;
            }
        }
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

    private SequenceState Make(KvSequenceOptions options, BlockHash root, RetentionMap? retention, object? policyState, int place, bool isHeld)
    {
        KvCacheOptions settings = cache.Options;
        PrefixChain? chain = null;
        DeadTokens? dead = null;
        SequenceScores? scores = null;
        try
        {
            chain = cache.Prefixes is null ? null : new PrefixChain(cache.Prefixes, cache.Tier.Shape, root, retention, cache.Ledger);
            dead = settings.MergePages ? new DeadTokens(cache.Tier.Shape, cache.Ledger) : null;
            scores = settings.Policy is null ? null : new SequenceScores(cache.Tier, policyState, cache.Needs, place, cache.Ledger);
            var table = new PageTable(cache.Tier, cache.Classes, cache.Pool, place, cache.Owners.NumberOf(options.Tenant), dead);
            var sequence = new SequenceState(options, table, settings.MaxTokens, cache.Geometry.Layers)
            {
                Chain = chain,
                Scores = scores,
                LastStep = cache.Clock.Tick(),
                IsHandedOut = !isHeld,
            };
            if (isHeld)
            {
                sequence.Gate.EnterCall();
            }

            cache.Ledger.Add(Kernels.AllocationKind.Bookkeeping, TokenIdBytes(cache));
            cache.Seat(place, sequence);
            return sequence;
        }
        catch
        {
            chain?.Dispose();
            dead?.Dispose();
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
                sequence.Chain?.Dispose();
                sequence.Table.Dead?.Dispose();
                sequence.Scores?.Dispose();
            }
            finally
            {
                cache.Ledger.Add(Kernels.AllocationKind.Bookkeeping, -TokenIdBytes(cache));
                cache.Seat(sequence.Table.Sequence, null);
            }
        }
    }

    private static long TokenIdBytes(CacheState cache) => (long)cache.Options.MaxTokens * sizeof(int);

    // True if a last page that is not full is resident in every row as it was written.
    private bool EndsInWrittenPages(PageTable table, int length)
    {
        (int tail, int rest) = Math.DivRem(length, cache.Geometry.PageTokens);
        for (int row = 0; rest != 0 && row < table.Rows; row++)
        {
            if (table.EntryOf(row, tail) is var entry && (entry < 0 || table.IsMerged(row, entry)))
            {
                return false;
            }
        }

        return true;
    }

    // Pages that must be encoded again once the sequence, cut to a length, grows over its last page.
    private int ReencodedPagesAt(PageTable table, int length)
    {
        (int page, int rest) = Math.DivRem(length, cache.Geometry.PageTokens);
        int reencoded = 0;
        for (int row = 0; rest != 0 && page < table.FirstOpen && row < table.Rows; row++)
        {
            reencoded += cache.Classes.IsReencoded(table.PageClass(row, table.EntryOf(row, page)), row / cache.Geometry.KvHeads) ? 1 : 0;
        }

        return reencoded;
    }
}
