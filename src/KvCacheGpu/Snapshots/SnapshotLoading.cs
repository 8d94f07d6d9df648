namespace KvCacheGpu;

/// <summary>Loads sequences of a snapshot into a cache.</summary>
internal sealed class SnapshotLoading(CacheState cache, SequenceLife life, Evictor? evictor, IReadOnlyCollection<string>? ids)
{
    /// <summary>Loads by a store and a name.</summary>
    public RestoredSequences Load(SnapshotStore store, SnapshotName name, IProgress<SnapshotProgress>? progress, CancellationToken cancel) =>
        Load(take => store.Load(name, take, cancel), progress, cancel);

    /// <summary>Loads the snapshot that a file belongs to.</summary>
    public RestoredSequences LoadFile(string path, SnapshotOptions? options, IProgress<SnapshotProgress>? progress, CancellationToken cancel)
    {
        (string directory, string name) = (Path.GetDirectoryName(path) ?? "/", Path.GetFileName(path));
        try
        {
            StoreNames names = SnapshotOf(directory, name);
            var store = new SnapshotStore(directory, options);
            return Load(take => store.Load(names, take, cancel), progress, cancel);
        }
        catch (FileCallException error)
        {
            throw error.Error == FileCallException.NoEntry
                ? new KvSnapshotNotFoundException($"file {path}", "it to be there", "none", error)
                : new KvPersistenceException($"file {path}", "that it can be read", error.Message, error);
        }
    }

    private RestoredSequences Load(Func<Action<GenerationReader, SnapshotInfo>, SnapshotInfo> load, IProgress<SnapshotProgress>? progress, CancellationToken cancel)
    {
        RestoredSequences? restored = null;
        SnapshotInfo info = load((reader, found) =>
        {
            RestoreCheck.Tenant(found, reader.Content);
            var restore = new CacheRestore(cache, life, evictor, ids);
            restore.Begin(reader.Content);
            try
            {
                restore.ReadPages(reader, progress, cancel);
                cancel.ThrowIfCancellationRequested();
                restored = restore.Complete();
            }
            catch
            {
                restore.Abandon();
                throw;
            }
        });
        return restored! with { Snapshot = info };
    }

    private static StoreNames SnapshotOf(string directory, string name)
    {
        LibcFiles files = LibcFiles.Instance;
        using var folder = new OpenFile(files, files.OpenDirectory(directory));
        using OpenFile file = folder.Open(name, FileUse.Read);
        byte[] first = new byte[Math.Min(file.Length, FileHeader.MostBytes)];
        file.Read(first, 0);
        return SnapshotStore.Recognises(first)
            ? FileHeader.SnapshotOf(first, file.Length, name)
            : throw new KvUnsupportedException($"file {name}", "a file of a snapshot", "another");
    }
}
