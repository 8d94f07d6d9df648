namespace KvCacheGpu;

/// <content>The store as a whole: list, verify, back up, restore.</content>
public sealed partial class SnapshotStore
{
    /// <summary>What the store holds, by file name. Snapshots that cannot be read are listed with a notice that says why.</summary>
    /// <exception cref="KvSnapshotNotFoundException">There is no store (E002).</exception>
    public Task<IReadOnlyList<SnapshotInfo>> ListAsync(CancellationToken cancellationToken = default) =>
        Task.Run(() => List(cancellationToken), cancellationToken);

    /// <summary>Reads every byte of every generation of a snapshot and says what each is worth, the newest first.</summary>
    /// <exception cref="KvSnapshotNotFoundException">There is none (E002).</exception>
    public Task<IReadOnlyList<SnapshotVerdict>> VerifyAsync(SnapshotName name, CancellationToken cancellationToken = default)
    {
        name.Check();
        return Task.Run(() => Verify(name, cancellationToken), cancellationToken);
    }

    /// <summary>
    /// Copies each snapshot's newest whole generation into the store at <paramref name="path"/>, as newest generation there. Each is
    /// copied whole or not at all; what cannot be read does not keep the others from being copied, and is thrown at the end.
    /// </summary>
    /// <returns>What was copied.</returns>
    public Task<IReadOnlyList<SnapshotInfo>> BackupAsync(
        string path, IProgress<SnapshotProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        var target = new SnapshotStore(path, _options, _files);
        return Task.Run(() => target.CopyFrom(this, progress, cancellationToken), cancellationToken);
    }

    /// <summary>
    /// Copies each snapshot of the backup at <paramref name="path"/> into this store, as newest generation, after all of them were
    /// verified. Snapshots that are only here stay.
    /// </summary>
    /// <returns>What was copied.</returns>
    /// <exception cref="KvCorruptionException">One of the backup is not whole; nothing here has changed (E004).</exception>
    public Task<IReadOnlyList<SnapshotInfo>> RestoreAsync(
        string path, IProgress<SnapshotProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        var source = new SnapshotStore(path, _options, _files);
        return Task.Run(() => Restore(source, progress, cancellationToken), cancellationToken);
    }

    internal IReadOnlyList<SnapshotInfo> List(CancellationToken cancel) => Guarded<IReadOnlyList<SnapshotInfo>>(() =>
    {
        using StoreFolder folder = StoreFolder.Open(_files, StorePath, _options.AcceptsSharedDirectory);
        var found = new List<SnapshotInfo>();
        foreach (StoreNames names in folder.Directory.Files.List(folder.Directory.Descriptor).Order(StringComparer.Ordinal).Select(StoreNames.OfCurrent).OfType<StoreNames>())
        {
            cancel.ThrowIfCancellationRequested();
            found.Add(Info(folder, names));
        }

        return found;
    });

    internal IReadOnlyList<SnapshotVerdict> Verify(SnapshotName name, CancellationToken cancel) => Guarded<IReadOnlyList<SnapshotVerdict>>(() =>
    {
        var names = new StoreNames(Convert.ToHexStringLower(name.ToHash()));
        using StoreFolder folder = StoreFolder.Open(_files, StorePath, _options.AcceptsSharedDirectory);
        var past = new StorePast(folder, names);
        if (past.IsEmpty)
        {
            throw NotFound($"{name}");
        }

        return [.. past.Candidates.Select(generation => new SnapshotVerdict(generation, past.IsCurrent(generation), past.Flaw ?? ErrorOf(folder, names, past, generation, cancel)))];
    });

    internal IReadOnlyList<SnapshotInfo> Restore(SnapshotStore source, IProgress<SnapshotProgress>? progress, CancellationToken cancel)
    {
        foreach (SnapshotInfo info in source.List(cancel))
        {
            source.Open(NameOf(info), true, null, cancel).Dispose();
        }

        return CopyFrom(source, progress, cancel);
    }

    internal IReadOnlyList<SnapshotInfo> CopyFrom(SnapshotStore source, IProgress<SnapshotProgress>? progress, CancellationToken cancel)
    {
        var copied = new List<SnapshotInfo>();
        KvCacheException? first = null;
        foreach (SnapshotInfo info in source.List(cancel))
        {
            try
            {
                using OpenSnapshot snapshot = source.Open(NameOf(info), true, null, cancel);
                copied.Add(Save(snapshot.Info.Name!.Value, snapshot.Content, snapshot.Read, snapshot.Info.Created, progress, cancel));
            }
            catch (KvCorruptionException error)
            {
                first ??= error;
            }
        }

        return first is null ? copied : throw new KvCorruptionException($"store {source.StorePath}", first.Expected, $"{first.Actual}, in one of its snapshots; {copied.Count} others were copied", first);
    }

    // Where the listing could not read the name, opening says why once more.
    private static SnapshotName NameOf(SnapshotInfo info) =>
        info.Name ?? throw new KvCorruptionException($"snapshot {info.FileName}", "one whose name can be read", info.Notice ?? "none");

    private SnapshotInfo Info(in StoreFolder folder, StoreNames names)
    {
        KvCacheException? first = null;
        try
        {
            var past = new StorePast(folder, names);
            first = past.Flaw;
            foreach (long generation in past.Candidates)
            {
                try
                {
                    SnapshotManifest manifest = GenerationReader.ReadManifest(folder, names, generation, past.HashOf(generation), _options);
                    return InfoOf(names, manifest, first is null ? null : $"generation {generation}, because {first.Message}");
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
            using GenerationReader reader = GenerationReader.Open(folder, names, generation, past.HashOf(generation), _options, cancel);
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
}
