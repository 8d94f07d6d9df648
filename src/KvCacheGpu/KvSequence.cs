using System.Diagnostics.CodeAnalysis;

namespace KvCacheGpu;

/// <summary>
/// One sequence of tokens and the pages that hold its keys and values. Used by one thread at a time; different sequences may be used by
/// different threads at once.
/// </summary>
/// <remarks>
/// Every member but <see cref="Dispose"/> throws <see cref="ObjectDisposedException"/> after disposal; members that read or change pages
/// throw <see cref="KvConcurrencyException"/> while a step is under way or another thread is inside.
/// </remarks>
public sealed partial class KvSequence : IDisposable
{
    // Managed, and never another sequence's: a span of it may be kept for longer than the sequence.
    private readonly int[] _tokens;
    private SequenceGate _gate;
    private KvStep? _ownStep;

    internal KvSequence(
        KvCache cache, KvSequenceOptions options, PageTable table, PrefixChain? chain, SequenceScores? scores, bool isHeld)
    {
        (Cache, Options, Table, _chain, Scores) = (cache, options, table, chain, scores);
        _tokens = new int[cache.Settings.MaxTokens];
        LastStep = cache.Tick();
        _attended = new LayerSet(cache.Geometry.Layers);
        IsPublished = !isHeld;
        if (isHeld)
        {
            _gate.EnterCall();
        }
    }

    /// <summary>The cache that the sequence lives in.</summary>
    public KvCache Cache { get; }

    /// <summary>Tokens, dropped ones counted; without those of a step that has not been committed.</summary>
    public int Length
    {
        get
        {
            ThrowIfDisposed();
            return Table.Length;
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
            return _tokens.AsSpan(0, Table.Length);
        }
    }

    internal PageTable Table { get; }

    /// <summary>The step that holds the sequence, if one does.</summary>
    internal KvStep? Step
    {
        get => Volatile.Read(ref field);
        set => Volatile.Write(ref field, value);
    }

    /// <summary>Whether a step of this many tokens could begin now, as far as memory goes. False for 0 tokens.</summary>
    public bool CanAppend(int tokens)
    {
        using Call call = new(this);
        return Cache.CanAppend([this], [tokens]);
    }

    /// <summary>Begins a step that appends tokens, and reserves all that it takes.</summary>
    /// <param name="tokenIds">Ids of the tokens, 1 to <see cref="KvCacheOptions.MaxBatchTokens"/> of them.</param>
    /// <returns>The step; the same object each time, valid until it is committed or disposed.</returns>
    /// <exception cref="KvOutOfMemoryException">E001: no room, also after the policy dropped what it may; the tokens have changed nothing.</exception>
    /// <exception cref="ArgumentException">No tokens, or too many for one step.</exception>
    public KvStep Begin(ReadOnlySpan<int> tokenIds)
    {
        KvStep step = OwnStep();
        step.Open(tokenIds, [tokenIds.Length], mayRefuse: false);
        return step;
    }

    /// <summary>Begins a step where there is room for it. See <see cref="Begin"/>.</summary>
    /// <returns>False where <see cref="Begin"/> would throw <see cref="KvOutOfMemoryException"/>.</returns>
    public bool TryBegin(ReadOnlySpan<int> tokenIds, [NotNullWhen(true)] out KvStep? step)
    {
        KvStep own = OwnStep();
        step = own.Open(tokenIds, [tokenIds.Length], mayRefuse: true) ? own : null;
        return step is not null;
    }

    /// <summary>
    /// Makes a sequence of the same tokens that shares every page; a page is copied when one of the sharers writes on in it.
    /// </summary>
    /// <exception cref="KvOutOfMemoryException">E001: <see cref="KvCacheOptions.MaxSequences"/> live already.</exception>
    public KvSequence Fork()
    {
        using Call call = new(this);

        // Held until it is whole: a save of all that live must not meet it before.
        KvSequence fork = Cache.CreateSequence(Options, isHeld: true);
        try
        {
            _tokens.AsSpan(0, Table.Length).CopyTo(fork._tokens);
            lock (Cache.Pool.Gate)
            {
                fork.Table.ShareWith(Table);
                fork._chain?.ShareWith(_chain!);
            }

            fork.ShareStanding(this);
        }
        catch
        {
            fork.DisposeHeld();
            throw;
        }

        fork.Publish();
        fork.LeaveHeld();
        return fork;
    }

    /// <summary>Takes tokens off the end.</summary>
    /// <param name="length">Tokens to keep, 0 to <see cref="Length"/>.</param>
    /// <remarks>
    /// Exact for up to a page of tokens below the longest length reached: no kept token is encoded a second time, and on pages in full
    /// precision what follows is, bit for bit, what it would have been. Deeper cuts never write into sealed pages; the page cut
    /// is copied when the sequence grows, and encoded again when it is full. Sealed pages stay sealed. A merged page
    /// (<see cref="KvCacheOptions.MergePages"/>) goes whole when the cut falls among its tokens.
    /// </remarks>
    public KvTruncation Truncate(int length)
    {
        using Call call = new(this);
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, Table.Length);
        if (length == Table.Length)
        {
            return new KvTruncation(length, 0);
        }

        int cut = Table.CuttableLength(length);
        int reencoded = Table.ReencodedPagesAt(cut);
        lock (Cache.Pool.Gate)
        {
            Table.CutTo(cut);
            _chain?.CutTo(cut / Cache.Geometry.PageTokens);
        }

        CutStanding(cut);
        _attended.Clear();
        return new KvTruncation(cut, reencoded);
    }

    /// <summary>
    /// Gives back every page and the table rows. Waits for a call of another thread that is inside; a step under way is abandoned. Calls that
    /// come later, of the step also, throw <see cref="ObjectDisposedException"/>.
    /// </summary>
    /// <exception cref="KvConcurrencyException">E006: called from inside of a call on the sequence, as a policy could; nothing was disposed.</exception>
    public void Dispose()
    {
        ThrowIfInside();
        var wait = default(SpinWait);
        bool? isMine;
        while ((isMine = _gate.TryEnterDisposal()) is null)
        {
            Step?.Dispose();
            wait.SpinOnce();
        }

        if (isMine.Value)
        {
            GiveBack();
        }
    }

    /// <summary>Disposes a sequence that was made held and that nobody else has seen.</summary>
    internal void DisposeHeld()
    {
        _gate.LeaveDisposed();
        GiveBack();
    }

    /// <summary>Refuses to dispose what the calling thread is inside of.</summary>
    internal void ThrowIfInside()
    {
        _gate.ThrowIfInside();
        Step?.ThrowIfInside();
    }

    internal void EnterStep(KvStep step)
    {
        _gate.EnterStep();
        Step = step;
    }

    internal void LeaveStep()
    {
        Step = null;
        _gate.Leave();
    }

    internal void ThrowIfDisposed() => ObjectDisposedException.ThrowIf(_gate.IsDisposed, this);

    /// <summary>Enters for a call from outside, until <see cref="LeaveHeld"/>.</summary>
    internal void EnterCall() => _gate.EnterCall();

    /// <summary>Keeps the ids of a step beyond the sequence's end, where no one sees them before Commit.</summary>
    internal void HoldTokens(ReadOnlySpan<int> tokenIds) => tokenIds.CopyTo(_tokens.AsSpan(Table.Length));

    /// <summary>Says what the committed step attended to.</summary>
    internal void Attended(LayerSet layers) => _attended.CopyFrom(layers);

    /// <summary>Says that the tables' statistics are of a step that left no trace.</summary>
    internal void ForgetAttended() => _attended.Clear();

    // The place in the cache last: who finds it empty may free what sequences lie in. Whatever fails, nobody waits for it in vain.
    private void GiveBack()
    {
        lock (Cache.Pool.Gate)
        {
            try
            {
                Table.CutTo(0);
                _chain?.Dispose();
                Table.Dead?.Dispose();
                Scores?.Dispose();
            }
            finally
            {
                Cache.Forget(this);
            }
        }
    }

    private KvStep OwnStep()
    {
        ThrowIfDisposed();
        return _ownStep ??= new KvStep(Cache, [this]);
    }

    /// <summary>One call that reads or changes pages: no step and no other thread meanwhile.</summary>
    private readonly ref struct Call
    {
        private readonly KvSequence _sequence;

        public Call(KvSequence sequence)
        {
            sequence._gate.EnterCall();
            _sequence = sequence;
        }

        public void Dispose() => _sequence._gate.Leave();
    }
}
