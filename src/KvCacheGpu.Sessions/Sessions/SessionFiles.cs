namespace KvCacheGpu;

/// <summary>The sessions of an engine on disk.</summary>
internal sealed class SessionFiles(KvCache cache, KvCacheConfig config, SessionTable sessions)
{
    private SnapshotStore? _store;

    /// <summary>How the store is read and written.</summary>
    public SnapshotOptions Options => new() { Workers = config.Execution.EnableAsync ? config.Execution.AsyncThreads : 1 };

    /// <inheritdoc cref="UltraAdaptiveKvCacheEngine.SaveAsync"/>
    public Task<SnapshotInfo> SaveAsync(string name, KvSessionKey session, CancellationToken cancel)
    {
        SnapshotStore store = Store();
        KvSessionKey key = sessions.KeyOf(session);
        EngineSession found = sessions.Find(session) ?? throw new ArgumentException($"expected a session, got '{session}', which is none", nameof(session));
        return Task.Run(
            () =>
            {
                // A lock belongs to its thread, so that the save is waited for here.
                lock (found.Gate)
                {
                    found.Sequence.Name = key.Id;
                    found.NotePositions();
                    return cache.SaveAsync(store, new SnapshotName(name, key.Tenant), [found.Sequence], null, cancel).GetAwaiter().GetResult();
                }
            },
            cancel);
    }

    /// <inheritdoc cref="UltraAdaptiveKvCacheEngine.LoadAsync"/>
    public async Task<KvRestored> LoadAsync(string name, KvSessionKey session, IReadOnlyList<ISnapshotImporter> importers, CancellationToken cancel)
    {
        SnapshotStore store = Store();
        KvSessionKey key = sessions.KeyOf(session);
        KvRestored restored;
        try
        {
            restored = await cache.LoadAsync(store, new SnapshotName(name, key.Tenant), null, null, cancel).ConfigureAwait(false);
        }
        catch (KvSnapshotNotFoundException) when (Path.GetFileName(name) == name && File.Exists(Path.Combine(store.StorePath, name)))
        {
            string path = Path.Combine(store.StorePath, name);
            restored = await cache.LoadFileAsync(path, importers, Options, null, key.Tenant, cancel).ConfigureAwait(false);
        }

        sessions.Adopt(restored, key, session.Tenant);
        return restored;
    }

    private SnapshotStore Store() => config.Persistence is { EnablePersistence: true, PersistencePath: { } path }
        ? _store ??= new SnapshotStore(path, Options)
        : throw new KvConfigurationException("enable_persistence", "true, for sessions to be saved and loaded", "false");
}
