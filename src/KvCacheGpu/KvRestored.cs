namespace KvCacheGpu;

/// <summary>The sequences that were loaded into a cache, and how much of them is as it was saved.</summary>
/// <remarks>Thread safety: it never changes; its sequences are used as each sequence is.</remarks>
public sealed record KvRestored
{
    /// <summary>The snapshot; null where a foreign file was imported.</summary>
    public SnapshotInfo? Snapshot { get; init; }

    /// <summary>Who has read what was imported (<see cref="KvCacheSnapshots.ImportAsync"/>); null if it was a snapshot.</summary>
    public string? ImportedBy { get; init; }

    /// <summary>The sequences, in the order in which they were saved. They live in the cache, the caller's to use and to dispose.</summary>
    public required IReadOnlyList<KvSequence> Sequences { get; init; }

    /// <summary>Pages that lie in the cache bit for bit as they lay where they were saved; shared ones once.</summary>
    public long ExactPages { get; init; }

    /// <summary>Pages that were decoded and written anew, since formats, rotation or page size differ, or that a foreign file was appended to.</summary>
    public long ReencodedPages { get; init; }

    /// <summary>Entries that the cache's policy dropped so that the rest fits its budget.</summary>
    public long EvictedPages { get; init; }

    /// <summary>Says what is not as it was saved, and why; empty if nothing differs.</summary>
    public IReadOnlyList<string> Notes { get; init; } = [];

    /// <summary>True if every sequence goes on exactly as it would have where it was saved.</summary>
    public bool IsExact => ReencodedPages == 0 && EvictedPages == 0 && Notes.Count == 0;

    internal static KvRestored Of(KvCache cache, RestoredSequences found) => new()
    {
        Snapshot = found.Snapshot,
        Sequences = [.. found.Sequences.Select(state => new KvSequence(cache, state))],
        ExactPages = found.ExactPages,
        ReencodedPages = found.ReencodedPages,
        EvictedPages = found.EvictedPages,
        Notes = found.Notes,
    };
}
