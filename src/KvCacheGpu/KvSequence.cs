namespace KvCacheGpu;

/// <summary>
/// One sequence of tokens and the pages that hold its keys and values.
/// </summary>
/// <remarks>
/// Thread safety: it is used by one thread at a time, and disposed by any; different sequences may be used by different threads at once.
/// Every member but <see cref="Dispose"/> throws <see cref="ObjectDisposedException"/> after disposal; members that read or change pages
/// throw <see cref="KvConcurrencyException"/> while a step is under way or another thread is inside. A sequence that is not disposed gives its memory back
/// some time after the last reference to it is gone (<see cref="KvCache.ForgottenSequences"/>): disposing is what makes it soon, and certain.
/// </remarks>
public sealed class KvSequence : IDisposable
{
    internal KvSequence(KvCache cache, SequenceState state) => (Cache, State) = (cache, state);

    /// <summary>Notes that the sequence was forgotten: the cache gives it back with the next call that takes room.</summary>
    ~KvSequence() => Cache.State.Forget(State);

    /// <summary>The cache that the sequence lives in.</summary>
    public KvCache Cache { get; }

    /// <summary>The number of the sequence, by which errors name it: from 1 on, and never another's in the same cache. A fork gets its own.</summary>
    public long Id => State.Id;

    /// <summary>Whose the sequence is; forks inherit it.</summary>
    public KvSequenceOptions Options => State.Options;

    /// <summary>Tokens, dropped ones counted; without those of a step that has not been committed.</summary>
    public int Length
    {
        get
        {
            ThrowIfDisposed();
            int length = State.HostLength;
            GC.KeepAlive(this);
            return length;
        }
    }

    /// <summary>
    /// Ids of the tokens, <see cref="Length"/> of them; -1 where nobody gave one, as in sessions of an engine. Shows them until the next step or
    /// truncation; kept for longer, also beyond disposal, it shows ids that this sequence has or had, and never another's.
    /// </summary>
    public ReadOnlySpan<int> TokenIds
    {
        get
        {
            ThrowIfDisposed();
            ReadOnlySpan<int> ids = State.TokenIds;
            GC.KeepAlive(this);
            return ids;
        }
    }

    /// <summary>Tokens that a policy dropped: the mean over layers and KV heads.</summary>
    public double EvictedTokens
    {
        get
        {
            using SequenceGate.Call call = Enter();
            return Reader.EvictedTokens();
        }
    }

    /// <summary>Bytes of the pages that the sequence lists; pages shared with forks count fully in each.</summary>
    public long AllocatedBytes
    {
        get
        {
            using SequenceGate.Call call = Enter();
            return Cache.State.Pool.BytesOf(State.Table.ListedPages());
        }
    }

    /// <summary>
    /// The sequence's name in snapshots; with its tenant unique among those saved together. The default value is null: its place among them,
    /// counted from 0, or the next number that none of them has for its name. Forks do not inherit it.
    /// </summary>
    /// <exception cref="ArgumentException">Longer than 64 KiB of UTF-8, or half of a surrogate pair in it, which UTF-8 cannot say.</exception>
    public string? Name
    {
        get => State.Name;
        set => State.Name = SnapshotLimits.Checked(value, nameof(Name));
    }

    /// <summary>
    /// Metadata that snapshots keep for the host, copied when it is set: at most 900 pieces of 64 KiB of UTF-8 each. Keys that begin with "kvcache." are
    /// the engine's. The default value is none. Forks do not inherit it.
    /// </summary>
    /// <exception cref="ArgumentException">Too many, or a key of the engine's.</exception>
    public IReadOnlyDictionary<string, string> Metadata
    {
        get => State.Metadata;
        set => State.Metadata = SequenceStanding.Checked(value);
    }

    /// <summary>
    /// Positions by which the host knows the tokens, in the order of the tokens, as runs of (first position, tokens): [0, 5, 90, 1] are 0..4 and 90.
    /// The cache does not use them; snapshots keep them. They always cover as many tokens as the sequence has: tokens that were appended later continue after
    /// the largest position. The default value is empty: a token's position is its place. Null: the sequence was restored from a snapshot of version 0.1,
    /// which did not say. Forks inherit them.
    /// </summary>
    /// <exception cref="ArgumentException">Not runs, a position below 0 or above <see cref="int.MaxValue"/>, or one twice.</exception>
    public IReadOnlyList<long>? PositionRuns
    {
        get => State.PositionRuns;
        set
        {
            long[]? runs = value is null ? null : [.. value];
            State.PositionRuns = runs is null || TokenPositions.AreRuns(runs)
                ? runs
                : throw new ArgumentException("expected runs of positions of 0 or more, none of them twice", nameof(value));
        }
    }

    internal SequenceState State { get; }

    private SequenceReader Reader => new(Cache.State, State);

    /// <summary>Returns true if there is room now for a step of this many tokens. Returns false for 0 tokens.</summary>
    public bool CanAppend(int tokens) => KvStep.CouldBegin(Cache, [this], [tokens]);

    /// <summary>Begins a step of this sequence alone, and reserves all that it takes. See <see cref="KvCache.Begin"/>.</summary>
    /// <param name="tokenIds">Ids of the tokens, 1 to <see cref="KvCacheOptions.MaxBatchTokens"/> of them.</param>
    /// <param name="stream">The stream of the device that all work of the step is enqueued on. The default value: the default stream of the device.</param>
    /// <returns>The step, until it is committed or disposed.</returns>
    /// <exception cref="KvOutOfMemoryException">E001: no room, also after the policy evicted what it may; the tokens have changed nothing.</exception>
    /// <exception cref="ArgumentException">No tokens, or too many for one step.</exception>
    /// <include file="../../docs/api/examples.xml" path="examples/of[@name='KvSequence.Begin']/*"/>
    public KvStep Begin(ReadOnlySpan<int> tokenIds, KvStream stream = default) => Cache.Begin([this], tokenIds, [tokenIds.Length], stream);

    /// <summary>Begins a step if there is room for it. See <see cref="Begin"/>.</summary>
    /// <returns>False where <see cref="Begin"/> would throw <see cref="KvOutOfMemoryException"/>.</returns>
    public bool TryBegin(ReadOnlySpan<int> tokenIds, out KvStep step, KvStream stream = default) => Cache.TryBegin([this], tokenIds, [tokenIds.Length], out step, stream);

    /// <summary>Begins a step if there is room for it, and says what is missing if there is not. See <see cref="Begin"/>.</summary>
    /// <param name="tokenIds">Ids of the tokens, 1 to <see cref="KvCacheOptions.MaxBatchTokens"/> of them.</param>
    /// <param name="step">The step; the default value where it did not begin.</param>
    /// <param name="shortage">What was needed and what was free, after the policy evicted what it may; null if the step began. Allocates nothing.</param>
    /// <param name="stream">The stream of the step.</param>
    /// <returns>False where <see cref="Begin"/> would throw <see cref="KvOutOfMemoryException"/>.</returns>
    public bool TryBegin(ReadOnlySpan<int> tokenIds, out KvStep step, out KvShortage? shortage, KvStream stream = default) =>
        Cache.TryBegin([this], tokenIds, [tokenIds.Length], out step, out shortage, stream);

    /// <summary>
    /// Attends to the tokens that a layer holds, and changes nothing that is stored: no token is appended, no page taken, dropped or moved. The queries
    /// stand at the places of the last tokens, as in the step that appended these: the last query sees every resident token, the one before it all but
    /// the last token, and so on. Tokens that a policy dropped are as if masked.
    /// </summary>
    /// <param name="layer">Layer.</param>
    /// <param name="queries">
    /// <c>[queries][query heads][key width]</c>; roped by the host, and scaled inside by <see cref="KvGeometry.AttentionScale"/>. At least 1 query, at most <see cref="Length"/> and
    /// <see cref="KvCacheOptions.MaxBatchTokens"/>. All work is enqueued on their stream (<see cref="KvTensor.Stream"/>), and an output on the device is ready there.
    /// </param>
    /// <param name="output">
    /// Receives <c>[queries][query heads][value width]</c>, in host memory or on the device, and if it is wanted the natural log-sum-exp of each
    /// <c>[query][query head]</c>.
    /// </param>
    /// <param name="window">A query sees its own place and the <c>window - 1</c> positions before it. The default value is 0: all before it.</param>
    /// <param name="counts">
    /// True to count the last query as attention that the tokens received, as the query of a step's last token counts: it goes into the policy's scores and
    /// <see cref="KvSequenceReading.PageMass"/>, and the sequence counts as recently used. Set it where the call stands for a step of the model. The default
    /// value is false: the call leaves no trace at all.
    /// </param>
    /// <remarks>
    /// Takes working memory as a step does, and gives it back before it returns: it waits while other calls of Attend hold all that the budget has room
    /// for. Allocates no managed memory.
    /// </remarks>
    /// <exception cref="ArgumentException">No such layer, too many queries or none, or a tensor or target of another shape.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: steps under way hold all the working memory that the budget has room for (<see cref="KvOutOfMemoryException.IsTransient"/>).</exception>
    /// <exception cref="KvUnsupportedException">
    /// E009: a device tensor where pages live in host memory; several queries that reach back to pages that a policy dropped or merged; a query that sees
    /// no token any longer; a window over merged pages.
    /// </exception>
    public void Attend(int layer, KvTensor queries, KvOutput output, int window = 0, bool counts = false)
    {
        using SequenceGate.Call call = Enter();
        new AttentionRead(Cache.State, [State], [], layer, queries, window, counts).Run(output);
    }

    /// <summary>
    /// Begins an empty sequence with the resident pages of the longest prefix that a sequence of the same tenant, adapter and salt computed.
    /// The tokens are in the sequence as if they had been appended; the rest of the prompt is the caller's to append.
    /// </summary>
    /// <param name="promptIds">
    /// Token ids of the prompt. The last one is never reused, so that there is one to compute; nor is anything from the first negative one on, which
    /// names no token.
    /// </param>
    /// <returns>
    /// Tokens now in the sequence: whole pages, and on sealed formats in full precision also the first tokens of the page that
    /// continues like the prompt the longest. 0 without <see cref="KvCacheOptions.PrefixReuse"/>.
    /// </returns>
    /// <remarks>
    /// Pages are shared by reference; one that is reused in part is copied by the step that writes on in it. Only sealed pages can be reused: full ones that
    /// a committed sequence is <see cref="KvCacheOptions.ExactRollbackTokens"/> beyond. A rollback into reused tokens encodes compressed pages again.
    /// They count for the tenant's quota in full (<see cref="KvCacheTenants"/>).
    /// </remarks>
    /// <exception cref="KvStepOrderException">E010: the sequence is not empty.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: no room in the tenant's quota, or for the tables that list the pages; nothing has changed, and the sequence stays empty.</exception>
    /// <include file="../../docs/api/examples.xml" path="examples/of[@name='KvSequence.Reuse']/*"/>
    public int Reuse(ReadOnlySpan<int> promptIds)
    {
        using SequenceGate.Call call = Enter();
        if (State.Length > 0)
        {
            throw new KvStepOrderException("Reuse", "an empty sequence", $"{State.Length} tokens");
        }

        int unknown = promptIds.IndexOfAnyInRange(int.MinValue, -1);
        promptIds = unknown < 0 ? promptIds : promptIds[..(unknown + 1)];
        int most = Math.Min(promptIds.Length - 1, Cache.State.MaxSequenceTokens);
        return State.Chain is null || most <= 0 ? 0 : new SequencePrefix(Cache.State, Cache.Life, Cache.Tiers).Reuse(State, promptIds[..most]);
    }

    /// <summary>
    /// Makes a sequence of the same tokens that shares every page; a page is copied when one of the sharers writes on in it.
    /// </summary>
    /// <exception cref="KvOutOfMemoryException">E001: <see cref="KvCacheOptions.MaxSequences"/> live already, or no room for the fork's tables or in the tenant's quota.</exception>
    /// <include file="../../docs/api/examples.xml" path="examples/of[@name='KvSequence.Fork']/*"/>
    public KvSequence Fork()
    {
        using SequenceGate.Call call = Enter();
        SequenceState fork = Cache.Life.Fork(State);
        fork.IsHandedOut = true;
        fork.Gate.Leave();
        return new KvSequence(Cache, fork);
    }

    /// <summary>Takes tokens off the end.</summary>
    /// <param name="length">Tokens to keep, 0 to <see cref="Length"/>.</param>
    /// <remarks>
    /// Exact for up to <see cref="KvCacheOptions.ExactRollbackTokens"/> below the greatest length that was reached: no kept token is encoded a second time,
    /// and on pages in full precision what follows is, bit for bit, what it would have been. Deeper cuts, and those into tokens that came from
    /// <see cref="Reuse"/>, never write into sealed pages: a page that is cut is copied when the sequence grows, and encoded again when it is sealed. Sealed
    /// pages stay sealed. If the cut falls among the tokens of a merged page (<see cref="KvCacheOptions.MergePages"/>), the whole page goes.
    /// </remarks>
    /// <include file="../../docs/api/examples.xml" path="examples/of[@name='KvSequence.Truncate']/*"/>
    public KvTruncation Truncate(int length)
    {
        using SequenceGate.Call call = Enter();
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, State.Length);
        return length == State.Length ? new KvTruncation(length, 0) : SequenceCut.Run(Cache.State, State, length);
    }

    /// <summary>
    /// Puts other keys and values in the place of a token's, and leaves every other token as it is, bit for bit. All of it is checked first: refused, it
    /// has changed nothing.
    /// </summary>
    /// <param name="position">The token, 0 to <see cref="Length"/> - 1.</param>
    /// <param name="keys"><c>[layers][KV heads][key width]</c>.</param>
    /// <param name="values"><c>[layers][KV heads][value width]</c>.</param>
    /// <remarks>
    /// An open page that no one shares is written in place. A shared page, and a sealed one in full precision, never changes: a copy takes its place in
    /// this sequence alone. A page that was sealed into fewer bits holds its tokens by common scales, so that none can be replaced alone:
    /// <see cref="Truncate"/> and appending anew is the way there.
    /// </remarks>
    /// <exception cref="ArgumentException">No such token, or a tensor of another length.</exception>
    /// <exception cref="KvNonFiniteException">E004: a number that the page formats do not hold.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: no room for the copy of a page.</exception>
    /// <exception cref="KvUnsupportedException">
    /// E009: the token lies in a compressed page (the message names the first position from which tokens can be replaced), was dropped in some layer and
    /// head, or lies in a merged page; or the cache reuses prefixes, which are known by their token ids alone.
    /// </exception>
    public void Replace(int position, ReadOnlySpan<float> keys, ReadOnlySpan<float> values)
    {
        using SequenceGate.Call call = Enter();
        new TokenReplacement(Cache.State, State, position, keys, values).Run();
    }

    /// <summary>
    /// Writes a sealed page anew in smaller formats and lists it in its own place; others that share the page keep it, and so does the prefix index
    /// (<see cref="Reuse"/>).
    /// </summary>
    /// <param name="layer">Layer.</param>
    /// <param name="head">KV head, counted from the first held here.</param>
    /// <param name="page">Page index: first position / page tokens.</param>
    /// <param name="formats">One of <see cref="KvCacheOptions.DemotionFormats"/>.</param>
    /// <returns>False if the formats cannot hold the page (a number that is not finite, a scale beyond binary16): it stays as it is.</returns>
    /// <remarks>
    /// The ladder: full precision becomes anything smaller; I8 becomes T or V; these become fewer bits. Keys and values each
    /// lose precision twice at most, being sealed counted; a part that is in the format already is copied as it is.
    /// </remarks>
    /// <exception cref="ArgumentException">No such layer, head or resident page; the page is still open; the layer does not allow the formats, or the ladder does not.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: no room for the new page; nothing has changed.</exception>
    public bool Demote(int layer, int head, int page, KvFormats formats)
    {
        int row = RowOf(layer, head);
        using SequenceGate.Call call = Enter();
        return new Demoter(Cache.State).Demote(State, row, page, formats) == PageOutcome.Written;
    }

    /// <summary>Keeps tokens from being dropped or demoted by the policy; whole pages stay with them. What was dropped before does not come back.</summary>
    /// <param name="start">First position.</param>
    /// <param name="length">Tokens, 0 or more.</param>
    /// <remarks>Forks inherit pins. Too many of them leave the budget nothing to give: steps are then refused.</remarks>
    /// <exception cref="ArgumentOutOfRangeException">Positions that the sequence does not have.</exception>
    public void Pin(int start, int length)
    {
        using SequenceGate.Call call = Enter();
        ThrowIfNotHeld(start, length);
        State.Pins.Add(start, start + length);
    }

    /// <summary>Gives tokens up to the policy again.</summary>
    /// <param name="start">First position; pinned or not.</param>
    /// <param name="length">Tokens, 0 or more.</param>
    /// <exception cref="ArgumentOutOfRangeException">Positions that the sequence does not have.</exception>
    public void Unpin(int start, int length)
    {
        using SequenceGate.Call call = Enter();
        ThrowIfNotHeld(start, length);
        State.Pins.Remove(start, start + length);
    }

    /// <summary>
    /// Says that a new segment begins with the next token: a prompt after the system prompt, a turn. Each keeps its share of the pages
    /// (<see cref="KvPolicy.SegmentFloor"/>) while others can give. Forks inherit the marks.
    /// </summary>
    public void MarkSegment()
    {
        using SequenceGate.Call call = Enter();
        State.MarkSegment();
    }

    /// <summary>Counts the resident tokens of a layer and KV head.</summary>
    /// <exception cref="ArgumentOutOfRangeException">No such layer or head.</exception>
    public int ResidentTokens(int layer, int head)
    {
        int row = RowOf(layer, head);
        using SequenceGate.Call call = Enter();
        return State.Table.ResidentTokens(row);
    }

    /// <summary>
    /// Gives back every page and the tables, from any thread. Waits for a call of another thread that is inside. A step under way ends without a trace, for all its
    /// sequences: those that it has beside this one are as before it began. Calls that come later, of the step also, throw
    /// <see cref="ObjectDisposedException"/>.
    /// </summary>
    /// <exception cref="KvConcurrencyException">E006: called from inside of a call on the sequence, as a policy could, which it cannot end beneath itself; nothing was disposed.</exception>
    public void Dispose()
    {
        Cache.Life.Dispose(State);
        GC.SuppressFinalize(this);
    }

    /// <summary>Enters for one call. Until it is inside, the handle lives, so that a host's last call on a sequence does not find it given back already.</summary>
    internal SequenceGate.Call Enter()
    {
        State.Settle();
        SequenceGate.Call call = State.Gate.EnterForCall();
        GC.KeepAlive(this);
        return call;
    }

    internal void ThrowIfDisposed() => ObjectDisposedException.ThrowIf(State.Gate.IsDisposed, this);

    internal int RowOf(int layer, int head)
    {
        Guard.ThrowIfOutside(layer, Cache.Geometry.Layers, nameof(layer));
        Guard.ThrowIfOutside(head, Cache.Geometry.KvHeads, nameof(head));
        return (layer * Cache.Geometry.KvHeads) + head;
    }

    private void ThrowIfNotHeld(int start, int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(start);
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan((long)start + length, State.Length, nameof(length));
    }
}
