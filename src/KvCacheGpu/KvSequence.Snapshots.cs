namespace KvCacheGpu;

/// <content>What a snapshot keeps of a sequence beside its pages.</content>
public sealed partial class KvSequence
{
    private static readonly Dictionary<string, string> Nothing = [];

    private IReadOnlyList<long>? _positionRuns = [];

    /// <summary>
    /// What snapshots call the sequence; with its tenant unique among those saved together. The default value is null: its place among them,
    /// counted from 0, or the next number that none of them has for its name. Forks do not inherit it.
    /// </summary>
    /// <exception cref="ArgumentException">Longer than 64 KiB of UTF-8, or half of a surrogate pair in it, which UTF-8 cannot say.</exception>
    public string? Name
    {
        get;
        set => field = SnapshotLimits.Checked(value, nameof(Name));
    }

    /// <summary>
    /// What snapshots keep for the host, copied when it is set: at most 900 pieces of 64 KiB of UTF-8 each. Keys that begin with "kvcache." are
    /// the engine's. The default value is none. Forks do not inherit it.
    /// </summary>
    /// <exception cref="ArgumentException">Too many, or a key of the engine's.</exception>
    public IReadOnlyDictionary<string, string> Metadata
    {
        get;
        set => field = SequenceStanding.Checked(value);
    } = Nothing;

    /// <summary>
    /// Positions by which the host knows the tokens, in the order of the tokens, as runs of (first position, tokens): [0, 5, 90, 1] are 0..4 and 90.
    /// The cache does not use them; snapshots keep them. They are copied when they are set, and read for as many tokens as the sequence has: tokens that were
    /// appended since go on after the largest position. The default value is empty: a token's position is its place. Null: restored from a snapshot of version 0.1, which did not
    /// say. Forks inherit them.
    /// </summary>
    /// <exception cref="ArgumentException">Not runs, a position below 0 or above <see cref="int.MaxValue"/>, or one twice.</exception>
    public IReadOnlyList<long>? PositionRuns
    {
        get => _positionRuns is { Count: > 0 } runs ? TokenPositions.Fit(runs, Length) : _positionRuns;
        set
        {
            long[]? runs = value is null ? null : [.. value];
            _positionRuns = TokenPositions.AreRuns(runs)
                ? runs
                : throw new ArgumentException("expected runs of positions of 0 or more, none of them twice", nameof(value));
        }
    }

    internal PinnedSpans Pins => _pins;

    /// <summary>Whether it counts among all that live: it is whole, and its maker hands it out.</summary>
    internal bool IsPublished { get; private set; }

    /// <summary>Makes a sequence that was made held one of all that live.</summary>
    internal void Publish() => IsPublished = true;

    /// <summary>Enters for a snapshot, next after who is inside; false where the sequence was disposed.</summary>
    internal bool EnterNext(CancellationToken cancel) => _gate.EnterNext(cancel);

    /// <summary>Leaves what <see cref="EnterNext"/>, <see cref="EnterCall"/>, or making it held, has entered.</summary>
    internal void LeaveHeld() => _gate.Leave();

    /// <summary>Takes back what was saved beside the pages: the sequence is new, and held.</summary>
    internal void RestoreStanding(SnapshotSequence saved)
    {
        Table.Begin(saved.Length, saved.FirstOpenPage);
        saved.TokenIds.Span.CopyTo(_tokens);
        SequenceStanding.Restore(saved, _pins, _segments);
        (Name, Metadata) = (saved.Id, saved.HostMetadata);
        RestorePositions(SequenceStanding.PositionRunsOf(saved));
    }

    /// <summary>Takes runs as a snapshot has them.</summary>
    internal void RestorePositions(long[]? runs) => _positionRuns = runs;

    /// <summary>The scores of a row's pages from the first up to the given one, as bits, eight words each.</summary>
    internal void ReadScores(int row, Span<int> words)
    {
        lock (Cache.DeviceGate)
        {
            Cache.Tier.Read(Table.ScoreWord(row, 0), words);
        }
    }

    /// <summary>Writes what <see cref="ReadScores"/> reads.</summary>
    internal void LoadScores(int row, ReadOnlySpan<int> words)
    {
        lock (Cache.DeviceGate)
        {
            Cache.Tier.Load(Table.ScoreWord(row, 0), words);
        }
    }
}
