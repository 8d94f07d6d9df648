namespace KvCacheGpu;

/// <summary>Loads sequences of a snapshot into a cache.</summary>
internal sealed class SnapshotLoading(CacheState cache, SequenceLife life, Evictor? evictor, IReadOnlyCollection<string>? ids)
{
    /// <summary>Loads by a store and a name.</summary>
    public RestoredSequences Load(SnapshotStore store, SnapshotName name, IProgress<SnapshotProgress>? progress, CancellationToken cancel) =>
        Load(take => store.Load(name, take, cancel), progress, cancel);

    /// <summary>Loads the snapshot that a file of a store belongs to.</summary>
    public RestoredSequences LoadFile(SnapshotStore store, string file, IProgress<SnapshotProgress>? progress, CancellationToken cancel) =>
        Load(take => store.LoadFile(file, take, cancel), progress, cancel);

    private RestoredSequences Load(Func<Action<OpenSnapshot>, SnapshotInfo> load, IProgress<SnapshotProgress>? progress, CancellationToken cancel)
    {
        RestoredSequences? restored = null;
        SnapshotInfo info = load(snapshot =>
        {
            RestoreCheck.Tenant(snapshot.Info, snapshot.Content);
            var restore = new CacheRestore(cache, life, evictor, ids);
            restore.Begin(snapshot.Content);
            try
            {
                restore.ReadPages(snapshot, progress, cancel);
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
}
