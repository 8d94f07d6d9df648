using System.Globalization;

namespace KvCacheGpu.Cli;

/// <summary>What a run begins with and what it leaves behind: snapshots of its one sequence.</summary>
/// <param name="Store">The store; null where neither is asked for.</param>
/// <param name="Load">The snapshot to go on from, or null.</param>
/// <param name="Save">The snapshot to leave, or null.</param>
internal sealed record SavedRun(SnapshotStore? Store, string? Load, string? Save)
{
    // The last token that was written is not in the cache yet: the model reads it first when it goes on.
    private const string NextToken = "run.next-token";

    /// <summary>Tokens of the snapshot to go on from.</summary>
    public int Tokens { get; private init; }

    /// <summary>The token to read first, before what was asked; none where nothing is loaded.</summary>
    public int[] Next { get; private init; } = [];

    /// <summary>Looks at what was asked for.</summary>
    /// <param name="store">--store.</param>
    /// <param name="load">--load.</param>
    /// <param name="save">--save.</param>
    /// <param name="prompts">Prompts to continue.</param>
    /// <exception cref="UsageException">No store, no prompt alone, or a snapshot that no run has left.</exception>
    public static SavedRun Of(string? store, string? load, string? save, int prompts)
    {
        if (load is null && save is null)
        {
            return store is null ? new SavedRun(null, null, null) : throw new UsageException("--store", "--save or --load with it", "neither");
        }

        if (prompts > 1)
        {
            throw new UsageException("--save, --load", "one prompt", $"{prompts}");
        }

        SavedRun run = new(StoreChoice.Open(store), load, save);
        if (save is not null)
        {
            StoreChoice.Require("--save", save, "a snapshot's name");
        }

        return load is null ? run : run.LookAt(StoreChoice.Require("--load", load, "a snapshot's name"));
    }

    /// <summary>The sequence to go on with: what was saved, or a new one.</summary>
    /// <param name="cache">The cache, empty.</param>
    /// <param name="stages">Told of the bytes read.</param>
    public (KvSequence Sequence, KvRestored? Restored) Begin(KvCache cache, IStages stages)
    {
        if (Load is null)
        {
            return (cache.CreateSequence(), null);
        }

        KvRestored restored = StoreChoice.Run(cache.LoadAsync(Store!, Load, progress: new StoreProgress(stages, $"loading {Load}")));
        return (restored.Sequences[0], restored);
    }

    /// <summary>Leaves the sequence behind, if that was asked for.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="last">The last token generated.</param>
    /// <param name="stages">Told of the bytes written.</param>
    public SnapshotInfo? End(KvSequence sequence, int last, IStages stages)
    {
        if (Save is null)
        {
            return null;
        }

        sequence.Metadata = new Dictionary<string, string>(sequence.Metadata) { [NextToken] = last.ToString(CultureInfo.InvariantCulture) };
        return StoreChoice.Run(sequence.Cache.SaveAsync(Store!, Save, [sequence], new StoreProgress(stages, $"saving {Save}")));
    }

    private SavedRun LookAt(string name)
    {
        using OpenSnapshot open = StoreChoice.Run(Store!.InspectAsync(name));
        return open.Content.Sequences is [var sequence]
            && sequence.Metadata.TryGetValue(NextToken, out string? text)
            && int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int token)
            ? this with { Tokens = sequence.Length, Next = [token] }
            : throw new UsageException("--load", "a snapshot that a run left behind", $"'{name}', of {open.Content.Sequences.Count} sequences");
    }
}
