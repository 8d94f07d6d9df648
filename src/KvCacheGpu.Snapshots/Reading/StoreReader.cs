namespace KvCacheGpu;

/// <summary>Lists, verifies and opens the snapshots of a store. Takes no lock: a writer may be at work beside it.</summary>
internal sealed class StoreReader(StorePlace place)
{
    // A writer may replace the generation that is being opened. It needs two commits to disappoint a reader once.
    private const int Attempts = 16;

    /// <summary>The store's directory.</summary>
    public string Path => place.Path;

    /// <summary>Lists what the store holds, by file name.</summary>
    public IReadOnlyList<SnapshotInfo> List(CancellationToken cancel) => place.Guarded<IReadOnlyList<SnapshotInfo>>(() =>
    {
        using StoreFolder folder = place.Open();
        var found = new List<SnapshotInfo>();
        foreach (StoreNames names in folder.Directory.Files.List(folder.Directory.Descriptor).Order(StringComparer.Ordinal).Select(StoreNames.OfCurrent).OfType<StoreNames>())
        {
            cancel.ThrowIfCancellationRequested();
            if (Info(folder, names) is { } info)
            {
                found.Add(info);
            }
        }

        return found;
    });

    /// <summary>Reads every byte of every generation of a snapshot, the newest first.</summary>
    public IReadOnlyList<SnapshotVerdict> Verify(SnapshotName name, CancellationToken cancel) => place.Guarded<IReadOnlyList<SnapshotVerdict>>(() =>
    {
        StoreNames names = StoreNames.Of(name);
        using StoreFolder folder = place.Open();
        for (int attempt = 1; ; attempt++)
        {
            var past = new StorePast(folder, names);
            if (past.IsEmpty)
            {
                throw place.NotFound($"{name}");
            }

            SnapshotVerdict[] verdicts =
                [.. past.Candidates.Select(generation => new SnapshotVerdict(generation, past.IsCurrent(generation), past.Flaw ?? ErrorOf(folder, names, past, generation, cancel)))];

            // A generation that a save has taken away meanwhile is none that is damaged.
            if (attempt == Attempts || Array.TrueForAll(verdicts, verdict => verdict.Error is null) || !past.HasChanged())
            {
                return verdicts;
            }
        }
    });

    /// <summary>Shows generations to <paramref name="take"/>, the newest first, until it gets through one of them. Nothing may be left of a call that threw.</summary>
    public SnapshotInfo Load(SnapshotName name, Action<OpenSnapshot> take, CancellationToken cancel) => Load(StoreNames.Of(name), $"{name}", take, cancel);

    /// <summary>The same for the snapshot that a file of the store belongs to.</summary>
    /// <exception cref="KvSnapshotNotFoundException">There is no such file (E002).</exception>
    /// <exception cref="KvCorruptionException">The file does not begin like one of a store (E004).</exception>
    /// <exception cref="KvUnsupportedException">It does not have the name that the store gave it (E009).</exception>
    public SnapshotInfo LoadFile(string file, Action<OpenSnapshot> take, CancellationToken cancel)
    {
        place.Guarded(() =>
        {
            try
            {
                using StoreFolder folder = place.Open();
                using OpenFile opened = folder.Directory.Open(file, FileUse.Read);
                long length = opened.Length;
                byte[] first = new byte[Math.Min(length, FileHeader.MostBytes)];
                opened.Read(first, 0);
                FileHeader.ThrowIfFlawed(first, length, file);
                return 0;
            }
            catch (FileCallException error) when (error.Error == FileCallException.NoEntry)
            {
                throw place.NotFound(file);
            }
        });
        StoreNames names = StoreNames.OfFile(file)
            ?? throw new KvUnsupportedException($"file {file}", "a snapshot's file in its store, under the name that the store gave it", "another name");
        return Load(names, names.Hash, take, cancel);
    }

    /// <summary>Opens a snapshot; where <paramref name="verify"/> is true, after every byte of it was read.</summary>
    public OpenSnapshot Open(SnapshotName name, bool verify, IProgress<SnapshotProgress>? progress, CancellationToken cancel) =>
        Newest(StoreNames.Of(name), $"{name}", (info, reader) =>
        {
            try
            {
                if (verify)
                {
                    reader.ReadPages((_, _) => { }, progress, cancel);
                }

                return new OpenSnapshot(info, reader, isWithinStore: false);
            }
            catch
            {
                reader.Dispose();
                throw;
            }
        }, cancel);

    /// <summary>Opens a snapshot that was listed, after every byte of it was read.</summary>
    public OpenSnapshot Open(SnapshotInfo listed, CancellationToken cancel) => Open(
        listed.Name ?? throw new KvCorruptionException($"snapshot {listed.FileName}", "one whose name can be read", listed.Notice ?? "none"), verify: true, null, cancel);

    private SnapshotInfo Load(StoreNames names, string name, Action<OpenSnapshot> take, CancellationToken cancel) => Newest(names, name, (info, reader) =>
    {
        using var snapshot = new OpenSnapshot(info, reader, isWithinStore: true);
        take(snapshot);
        return info;
    }, cancel);

    // Returns what use makes of the newest generation that it gets through; it disposes the reader.
    private T Newest<T>(StoreNames names, string name, Func<SnapshotInfo, GenerationReader, T> use, CancellationToken cancel) => place.Guarded(() =>
    {
        using StoreFolder folder = place.Open();
        for (int attempt = 1; ; attempt++)
        {
            var past = new StorePast(folder, names);
            if (past.IsEmpty)
            {
                throw place.NotFound(name);
            }

            KvCorruptionException? first = past.Flaw;
            foreach (long generation in past.Candidates)
            {
                try
                {
                    GenerationReader reader = GenerationReader.Open(folder, names, generation, past.HashOf(generation), place.Options, cancel);
                    return use(reader.Manifest.ToInfo(names.Hash, Notice(generation, first)), reader);
                }
                catch (KvCorruptionException error)
                {
                    first ??= error;
                }
                catch (FileCallException error) when (error.IsOfTheFile)
                {
                    first ??= new KvCorruptionException($"generation {generation} of '{name}'", "files that can be read", error.Message, error);
                }
            }

            if (attempt == Attempts || !past.HasChanged())
            {
                throw first ?? new KvCorruptionException($"snapshot '{name}'", "a generation", "none");
            }
        }
    });

    // Null: deleted since its name was read.
    private SnapshotInfo? Info(in StoreFolder folder, StoreNames names)
    {
        KvCacheException? first = null;
        try
        {
            var past = new StorePast(folder, names);
            first = past.Flaw;
            if (past.IsEmpty)
            {
                return null;
            }

            foreach (long generation in past.Candidates)
            {
                try
                {
                    return GenerationReader.ReadManifest(folder, names, generation, past.HashOf(generation), place.Options).ToInfo(names.Hash, Notice(generation, first));
                }
                catch (KvCorruptionException error)
                {
                    first ??= error;
                }
                catch (FileCallException error) when (error.IsOfTheFile)
                {
                    first ??= new KvCorruptionException(names.Hash, "files that can be read", error.Message, error);
                }
            }
        }
        catch (KvCacheException error)
        {
            first = error;
        }

        return new SnapshotInfo { FileName = names.Hash, Notice = first?.Message ?? "no generation is there" };
    }

    private KvCacheException? ErrorOf(in StoreFolder folder, StoreNames names, StorePast past, long generation, CancellationToken cancel)
    {
        try
        {
            using GenerationReader reader = GenerationReader.Open(folder, names, generation, past.HashOf(generation), place.Options, cancel);
            reader.ReadPages((_, _) => { }, null, cancel);
            return null;
        }
        catch (KvCacheException error)
        {
            return error;
        }
        catch (FileCallException error)
        {
            return new KvPersistenceException($"generation {generation}", "files that can be read", error.Message, error);
        }
    }

    private static string? Notice(long generation, KvCacheException? before) => before is null ? null : $"generation {generation}, because {before.Message}";
}
