namespace KvCacheGpu;

/// <summary>Saves, deletes and copies snapshots. Calls on one writer queue; another process or store that writes is refused by the store's lock.</summary>
internal sealed class StoreWriter(StorePlace place)
{
    private static readonly TimeSpan CancelPoll = TimeSpan.FromMilliseconds(20);

    private readonly Lock _writing = new();

    /// <summary>Saves a content that was checked.</summary>
    public SnapshotInfo Save(
        SnapshotName name, SnapshotContent content, SnapshotPageReader pages, DateTimeOffset? created, IProgress<SnapshotProgress>? progress, CancellationToken cancel)
    {
        var work = new SaveWork(name, content, pages, created ?? place.Options.Clock.GetUtcNow(), place.Options.BlockBytes, progress, cancel);
        StoreNames names = StoreNames.Of(name);
        return Writing(() =>
        {
            using StoreFolder folder = place.OpenOrMake();
            using OpenFile held = folder.Lock();
            var past = new StorePast(folder, names);
            folder.Sweep(past.Leftovers());
            SnapshotManifest manifest = new SnapshotCommit(folder, names, past.NextGeneration()).Save(work, place.Options);
            SyncLast(folder, $"snapshot '{name}'");
            folder.Sweep(past.Expired(manifest.Generation));
            return manifest.ToInfo(names.Hash, null);
        }, cancel);
    }

    /// <summary>Deletes a snapshot with all its generations.</summary>
    public void Delete(SnapshotName name, CancellationToken cancel)
    {
        StoreNames names = StoreNames.Of(name);
        Writing(() =>
        {
            using StoreFolder folder = place.Open();
            using OpenFile held = folder.Lock();
            var past = new StorePast(folder, names);
            if (!past.HasCurrent)
            {
                throw place.NotFound($"{name}");
            }

            // Without CURRENT there is no snapshot: this one step deletes it, the rest is tidying.
            folder.Directory.Remove(names.Current);
            SyncLast(folder, $"deletion of snapshot '{name}'");
            folder.Sweep(past.Everything());
            return 0;
        }, cancel);
    }

    /// <summary>Copies each snapshot's newest whole generation from another store. Damaged ones do not keep the others from being copied, and are thrown at the end.</summary>
    public IReadOnlyList<SnapshotInfo> CopyFrom(StoreReader source, IProgress<SnapshotProgress>? progress, CancellationToken cancel)
    {
        var copied = new List<SnapshotInfo>();
        KvCacheException? first = null;
        foreach (SnapshotInfo info in source.List(cancel))
        {
            try
            {
                using OpenSnapshot snapshot = source.Open(info, cancel);
                copied.Add(Save(snapshot.Info.Name!.Value, snapshot.Content, snapshot.Read, snapshot.Info.Created, progress, cancel));
            }
            catch (KvSnapshotNotFoundException)
            {
                // Deleted since the list was made: there is nothing to copy any longer.
            }
            catch (KvCorruptionException error)
            {
                first ??= error;
            }
        }

        return first is null
            ? copied
            : throw new KvCorruptionException(
                $"store {source.Path}", first.Expected, $"{first.Actual}, in one of its snapshots; {copied.Count} others were copied", first);
    }

    /// <summary>Copies all snapshots of another store, after all of them were verified.</summary>
    public IReadOnlyList<SnapshotInfo> RestoreFrom(StoreReader source, IProgress<SnapshotProgress>? progress, CancellationToken cancel)
    {
        foreach (SnapshotInfo info in source.List(cancel))
        {
            source.Open(info, cancel).Dispose();
        }

        return CopyFrom(source, progress, cancel);
    }

    private static void SyncLast(in StoreFolder folder, string what)
    {
        try
        {
            folder.Directory.Sync();
        }
        catch (FileCallException error)
        {
            throw new KvPersistenceException(
                what, "that the disk confirms it", $"{error.Message}; it is in place, but may not survive a power loss", error, outcomeUnknown: true);
        }
    }

    private T Writing<T>(Func<T> write, CancellationToken cancel)
    {
        while (!_writing.TryEnter(CancelPoll))
        {
            cancel.ThrowIfCancellationRequested();
        }

        try
        {
            return place.Guarded(write);
        }
        finally
        {
            _writing.Exit();
        }
    }
}
