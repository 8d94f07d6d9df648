using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>The step that has a sequence: who disposes the sequence asks it to end.</summary>
internal interface ISequenceHolder
{
    /// <exception cref="KvConcurrencyException">E006: the calling thread is inside of a call on the step.</exception>
    void ThrowIfInside();

    /// <summary>
    /// Ends the step for all its sequences, if it still has this one: without a trace, but one that waits for its outcome takes it over.
    /// </summary>
    void Abandon(SequenceState sequence);

    /// <summary>Takes over the outcome of the step, if it waits for one and still has this sequence. Waits for the device.</summary>
    void Settle(SequenceState sequence);
}

/// <summary>A sequence: its tokens, the table of its pages, and all that is known of them. Data and invariants alone; verbs are elsewhere.</summary>
internal sealed class SequenceState : IDisposable
{
    private static readonly Dictionary<string, string> Nothing = [];

    // Managed, and never another sequence's: a span of it may be kept for longer than the sequence.
    private int[] _tokenIds = [];
    private readonly List<int> _segments = [];
    private readonly SequenceSize _size;
    private readonly MemoryLedger _ledger;
    private ISequenceHolder? _holder;
    private Exception? _failure;
    private int _enqueuedLength;
    private IReadOnlyList<long>? _positionRuns = [];

    public SequenceState(KvSequenceOptions options, PageTable table, in SequenceSize size, int layers, MemoryLedger ledger)
    {
        (Options, Table, _size, _ledger) = (options, table, size, ledger);
        Attended = new LayerSet(layers);
    }

    /// <summary>Its number among all that the cache has made.</summary>
    public required long Id { get; init; }

    /// <summary>The tenant that it counts for.</summary>
    public required TenantAccount Account { get; init; }

    /// <summary>Tokens of a step under way. Changed inside of the pool's gate.</summary>
    public int StepTokens { get; set; }

    /// <summary>The length that the sequence has for its host while the outcome of a step that was committed is not taken over; else 0.</summary>
    public int EnqueuedLength
    {
        get => Volatile.Read(ref _enqueuedLength);
        set => Volatile.Write(ref _enqueuedLength, value);
    }

    /// <summary>Tokens for the host, on any thread: with those of a step that was committed and whose outcome was not taken over yet.</summary>
    // Read in this order: the table has the tokens before the enqueued length goes.
    public int HostLength => Math.Max(EnqueuedLength, Length);

    /// <summary>The error of such a step, which was rolled back: for the next call that needs the sequence.</summary>
    public Exception? Failure => Volatile.Read(ref _failure);

    /// <summary>Bytes of pages that a load is about to list. Changed inside of the pool's gate.</summary>
    public long ComingBytes { get; set; }

    /// <summary>Who uses the sequence.</summary>
    public SequenceGate Gate { get; } = new();

    /// <summary>Whose it is, and what its prefixes are shared within.</summary>
    public KvSequenceOptions Options { get; }

    /// <summary>Its pages.</summary>
    public PageTable Table { get; }

    /// <summary>The blocks that it holds in the prefix index; null without prefix reuse.</summary>
    public PrefixChain? Chain { get; init; }

    /// <summary>The policy's knowledge of its pages beside what the tables hold; null without a policy.</summary>
    public SequenceScores? Scores { get; init; }

    /// <summary>Its pages in host memory; null without offloading.</summary>
    public AwayPages? Away { get; init; }

    /// <summary>Positions that must stay.</summary>
    public PinnedSpans Pins { get; } = new();

    /// <summary>The layers whose statistics in the tables are of the last committed step.</summary>
    public LayerSet Attended { get; }

    /// <summary>When it was last stepped or made, on the cache's clock: no two are alike.</summary>
    public long LastStep { get; set; }

    /// <summary>True if it counts among all that live: it is whole, and its maker hands it out.</summary>
    public bool IsHandedOut { get; set; }

    /// <summary>
    /// In the first cache of a group: the same sequence in each of the group's caches, this one first. Who holds this one's gate keeps others away from all of them.
    /// Empty in every other cache.
    /// </summary>
    public SequenceState[] Parts { get; set; } = [];

    /// <summary>The next in the list of sequences that were forgotten, where this is one of them.</summary>
    public SequenceState? NextForgotten { get; set; }

    /// <summary>Its name in snapshots, or null.</summary>
    public string? Name { get; set; }

    /// <summary>The host's metadata in snapshots.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; set; } = Nothing;

    /// <summary>
    /// The positions by which the host knows the tokens, as runs of (first, tokens), fitted to the tokens that there are. Empty, as of every new
    /// sequence: a token's position is its place. Null: restored from a version that did not say.
    /// </summary>
    public IReadOnlyList<long>? PositionRuns
    {
        get => _positionRuns is { Count: > 0 } runs ? TokenPositions.Fit(runs, HostLength) : _positionRuns;
        set => _positionRuns = value;
    }

    /// <summary>The step that has the sequence, if one does.</summary>
    public ISequenceHolder? Holder
    {
        get => Volatile.Read(ref _holder);
        set => Volatile.Write(ref _holder, value);
    }

    /// <summary>Tokens, dropped ones counted; without those of a step that has not been committed.</summary>
    public int Length => Table.Length;

    /// <summary>Ids of the tokens. On a thread that does not have the sequence, those that there were a moment ago.</summary>
    public ReadOnlySpan<int> TokenIds
    {
        get
        {
            // A step of another thread may change the array and the length in between.
            int[] ids = Volatile.Read(ref _tokenIds);
            return ids.AsSpan(0, Math.Min(ids.Length, HostLength));
        }
    }

    /// <summary>Positions at which segments begin, ascending.</summary>
    public ReadOnlySpan<int> SegmentStarts => CollectionsMarshal.AsSpan(_segments);

    /// <summary>Takes over the outcome of a step on the sequence that was committed without waiting. Called before the gate is entered.</summary>
    /// <exception cref="KvNonFiniteException">E004: the step was refused, and has been rolled back. Told once, as is an error of the device.</exception>
    public void Settle()
    {
        Holder?.Settle(this);
        if (Failure is { } failure && TakeFailure(failure))
        {
            ExceptionDispatchInfo.Throw(failure);
        }
    }

    /// <summary>Notes why a step that was committed without waiting is rolled back.</summary>
    public void Fail(Exception failure) => Volatile.Write(ref _failure, failure);

    /// <summary>Takes the failure for the caller to tell. Returns false if another thread was first.</summary>
    public bool TakeFailure(Exception failure) => Interlocked.CompareExchange(ref _failure, null, failure) == failure;

    /// <summary>Makes room for the leaves, ids and hashes of so many tokens, at least those that there are.</summary>
    /// <param name="tokens">Tokens.</param>
    public void Resize(int tokens)
    {
        int leaves = _size.Capacity(Table.LeavesFor(tokens));
        int room = leaves * Table.LeafTokens;
        if (room != _tokenIds.Length)
        {
            Table.Resize(leaves);
            Chain?.Resize(Table.PagesFor(room));
            _ledger.Add(AllocationKind.Bookkeeping, (long)(room - _tokenIds.Length) * sizeof(int));
            Array.Resize(ref _tokenIds, room);
        }
    }

    /// <summary>Keeps the ids of tokens that follow, where no one sees them before the tokens are part of the sequence.</summary>
    public void HoldTokenIds(ReadOnlySpan<int> ids) => ids.CopyTo(_tokenIds.AsSpan(Table.Length));

    /// <summary>Sets the ids of the first tokens, of a sequence that is being made.</summary>
    public void SetTokenIds(ReadOnlySpan<int> ids) => ids.CopyTo(_tokenIds);

    /// <summary>Notes that a segment begins with the next token; the first segment and empty ones are not noted.</summary>
    public void MarkSegment()
    {
        if (Table.Length > 0 && (_segments.Count == 0 || _segments[^1] < Table.Length))
        {
            _segments.Add(Table.Length);
        }
    }

    /// <summary>Adds the starts of segments of a sequence that is being made.</summary>
    public void AddSegments(IEnumerable<int> starts) => _segments.AddRange(starts);

    /// <summary>Forgets pins and segments of tokens from a length on.</summary>
    public void ForgetFrom(int length)
    {
        _positionRuns = _positionRuns is { Count: > 0 } runs ? TokenPositions.Fit(runs, length) : _positionRuns;
        Pins.Remove(length, int.MaxValue);
        _segments.RemoveAll(start => start >= length);
    }

    /// <summary>Takes over the ids, pins, segments and positions of another sequence, whose pages it shares.</summary>
    public void CopyFrom(SequenceState other)
    {
        other._tokenIds.AsSpan(0, other.Length).CopyTo(_tokenIds);
        Pins.CopyFrom(other.Pins);
        _segments.AddRange(other._segments);
        _positionRuns = other._positionRuns;
    }

    /// <summary>Gives its memory back, apart from the ids, which a span may still show; its pages were given back. The caller is inside of the pool's gate.</summary>
    public void Dispose()
    {
        Chain?.Dispose();
        Table.Dispose();
        Scores?.Dispose();
        _ledger.Add(AllocationKind.Bookkeeping, -(long)_tokenIds.Length * sizeof(int));
    }
}
