namespace KvCacheGpu.Tests;

/// <summary>Loads on the calling thread, where a test counts or steps by hand.</summary>
internal static class SynchronousLoads
{
    public static KvRestored LoadNow(this KvCache cache, SnapshotStore store, SnapshotName name, IProgress<SnapshotProgress>? progress = null) =>
        KvRestored.Of(cache, new SnapshotLoading(cache.State, cache.Life, cache.Pressure?.Evictor, null).Load(store, name, progress, default));
}
