using System.Globalization;
using KvCacheGpu.Import;

namespace KvCacheGpu.Cli;

/// <summary>The snapshots with which a run begins and ends, each of its one sequence. It may also begin with an old cache file.</summary>
/// <param name="Store">The store; null if none is needed.</param>
/// <param name="Load">The snapshot or the file from which to continue, or null.</param>
/// <param name="Save">The snapshot to save, or null.</param>
internal sealed record SavedRun(SnapshotStore? Store, string? Load, string? Save)
{
    // The last generated token is not in the cache yet: the model reads it first when the run continues.
    private const string NextToken = "run.next-token";

    /// <summary>The reader of an old file; null if a snapshot is loaded, or nothing.</summary>
    private CacheFileImporter? _importer;

    /// <summary>Number of tokens of the snapshot or file from which the run continues.</summary>
    public int Tokens { get; private init; }

    /// <summary>The saved snapshot, after it was saved.</summary>
    public SnapshotInfo? Left { get; private set; }

    /// <summary>The token to read first, before the prompt; none if nothing is loaded.</summary>
    public int[] Next { get; private init; } = [];

    /// <summary>Checks the options of a run.</summary>
    /// <param name="store">--store.</param>
    /// <param name="load">--load.</param>
    /// <param name="save">--save.</param>
    /// <param name="prompts">Number of prompts to continue.</param>
    /// <exception cref="UsageException">There is no store, there are several prompts, or no run has saved the snapshot.</exception>
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

        bool isFileAlone = save is null && store is null && File.Exists(load);
        SavedRun run = new(isFileAlone ? null : StoreChoice.Open(store), load, save);
        if (save is not null)
        {
            StoreChoice.Require("--save", save, "a snapshot's name");
        }

        return load is null ? run : isFileAlone ? run.LookAtFile(load) : run.LookAt(StoreChoice.Require("--load", load, "a snapshot's name"));
    }

    /// <summary>The same run, after an old file was checked against a model.</summary>
    /// <exception cref="UsageException">The file does not have exactly one sequence of this model.</exception>
    /// <exception cref="ImportException">The file is corrupt, or of a kind that is not read.</exception>
    public SavedRun For(KvGeometry model)
    {
        if (_importer is null)
        {
            return this;
        }

        ImportGeometry shape = new(model.Layers, model.KvHeads, model.KeyWidth, model.ValueWidth);
        using CacheFile old = CacheFile.Open(Load!);
        MappedCache mapped = MappedCache.Of(old, shape);
        return mapped.Sequences is [var sequence]
            ? this with { _importer = new CacheFileImporter(shape), Tokens = sequence.Tokens }
            : throw new UsageException("--load", "one sequence of this model in the file", $"{mapped.Sequences.Count} in {mapped.Entries.Count} entries; see kvcache data inspect");
    }

    /// <summary>The tokens to read after the loaded ones.</summary>
    /// <param name="more">The tokens of the prompt.</param>
    /// <exception cref="UsageException">There are none: an old file does not tell the token that follows.</exception>
    public int[] Following(int[] more)
    {
        int[] tokens = [.. Next, .. more];
        return tokens.Length > 0
            ? tokens
            : throw new UsageException("prompt", "one of --prompt, --prompt-file and --prompt-tokens, to follow on what the file holds", "none");
    }

    /// <summary>Makes the sequence: the saved one, or a new one.</summary>
    /// <param name="cache">The cache, empty.</param>
    /// <param name="stages">Shows the bytes read.</param>
    public (KvSequence Sequence, KvRestored? Restored) Begin(KvCache cache, IStages stages)
    {
        if (Load is null)
        {
            return (cache.CreateSequence(), null);
        }

        StoreProgress progress = new(stages, $"loading {Load}");
        KvRestored restored = _importer is null
            ? StoreChoice.Run(cache.LoadAsync(Store!, Load, progress: progress))
            : StoreChoice.Run(cache.LoadFileAsync(Load, [_importer], progress: progress));
        return (restored.Sequences[0], restored);
    }

    /// <summary>Saves the sequence, if --save was given.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="last">The last token generated.</param>
    /// <param name="stages">Shows the bytes written.</param>
    public SnapshotInfo? End(KvSequence sequence, int last, IStages stages)
    {
        if (Save is null)
        {
            return null;
        }

        sequence.Metadata = new Dictionary<string, string>(sequence.Metadata) { [NextToken] = last.ToString(CultureInfo.InvariantCulture) };
        return Left = StoreChoice.Run(sequence.Cache.SaveAsync(Store!, Save, [sequence], new StoreProgress(stages, $"saving {Save}")));
    }

    private SavedRun LookAt(string name)
    {
        OpenSnapshot snapshot;
        try
        {
            snapshot = StoreChoice.Run(Store!.InspectAsync(name));
        }
        catch (KvSnapshotNotFoundException) when (File.Exists(name))
        {
            return LookAtFile(name);
        }

        using OpenSnapshot open = snapshot;
        return open.Content.Sequences is [var sequence]
            && sequence.Metadata.TryGetValue(NextToken, out string? text)
            && int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int token)
            ? this with { Tokens = sequence.Length, Next = [token] }
            : throw new UsageException("--load", "a snapshot that a run left behind", $"'{name}', of {open.Content.Sequences.Count} sequences");
    }

    // The kind is found by the file's bytes, as loading does. The name may be anything.
    private SavedRun LookAtFile(string path)
    {
        if (PathKind.FlawOf(path) is { } flaw)
        {
            throw new UsageException("--load", "a regular file", $"{flaw}: {path}", "E002");
        }

        byte[] start = new byte[ISnapshotImporter.FirstBytes];
        using FileStream file = File.OpenRead(path);
        int read = file.ReadAtLeast(start, start.Length, throwOnEndOfStream: false);
        CacheFileImporter importer = new();
        return CacheFile.KindOf(start.AsSpan(0, read)) is { } foreign
            ? throw new UsageException("--load", "a snapshot's name, or an old cache: a pickle, or a file of torch.save", $"'{path}', {foreign}")
            : importer.CanRead(start.AsSpan(0, read))
            ? this with { _importer = importer }
            : throw new UsageException("--load", "a snapshot's name, or an old cache: a pickle, or a file of torch.save", $"'{path}', a file of another kind");
    }
}
