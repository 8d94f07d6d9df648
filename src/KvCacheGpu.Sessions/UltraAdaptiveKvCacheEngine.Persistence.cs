namespace KvCacheGpu;

/// <content>Sessions on disk, in the store at <see cref="KvPersistenceOptions.PersistencePath"/>.</content>
public sealed partial class UltraAdaptiveKvCacheEngine
{
    private SnapshotStore? _store;

    /// <summary>Readers of caches that something else wrote, for <see cref="LoadAsync"/>; pickles and files of torch.save need none. The default value is none.</summary>
    public IReadOnlyList<ISnapshotImporter> Importers { get; init; } = [];

    /// <summary>Saves a session. Once this returns, it is there, power loss or not. Calls on the session wait meanwhile.</summary>
    /// <param name="name">What it is called in the store; a tenant's names are the tenant's own.</param>
    /// <param name="session">The session.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <exception cref="KvConfigurationException">E003: persistence is off.</exception>
    /// <exception cref="ArgumentException">No such session, or a wrong tenant.</exception>
    /// <inheritdoc cref="KvCache.SaveAsync" path="/exception[@cref='T:KvCacheGpu.KvPersistenceException' or @cref='T:KvCacheGpu.KvStoreBusyException' or @cref='T:KvCacheGpu.KvNewerVersionException']"/>
    public Task<SnapshotInfo> SaveAsync(string name, KvSessionKey session = default, CancellationToken cancellationToken = default)
    {
        SnapshotStore store = Store();
        KvSessionKey key = KeyOf(session);
        EngineSession found = Find(session) ?? throw new ArgumentException($"expected a session, got '{session}', which is none", nameof(session));
        SnapshotName whole = new(name, key.Tenant);
        return Task.Run(
            () =>
            {
                lock (found.Gate)
                {
                    found.Sequence.Name = key.Id;
                    found.NotePositions();
                    return Cache.SaveAsync(store, whole, [found.Sequence], null, cancellationToken).GetAwaiter().GetResult();
                }
            },
            cancellationToken);
    }

    /// <summary>
    /// Loads what was saved, in place of the session that is there. Where the store has nothing of the name, a file of the name beside it is
    /// loaded by its content: a cache of an older version, a pickle or a file of torch.save, converts here by itself. The file stays as it is;
    /// <see cref="SaveAsync"/> keeps what came of it.
    /// </summary>
    /// <param name="name">What it is called in the store, or the file.</param>
    /// <param name="session">The session that it becomes; of a file with several, each becomes one of its own id and this one's tenant.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <returns>What was loaded, and how much of it is as it was saved. Its sequences are the sessions': do not use or dispose them.</returns>
    /// <exception cref="KvConfigurationException">E003: persistence is off, or it is of another model.</exception>
    /// <exception cref="ArgumentException">A wrong tenant.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: no room in the cache, or in the tenant's quota.</exception>
    /// <inheritdoc cref="KvCache.LoadAsync" path="/exception[@cref='T:KvCacheGpu.KvSnapshotNotFoundException' or @cref='T:KvCacheGpu.KvCorruptionException' or @cref='T:KvCacheGpu.KvNewerVersionException' or @cref='T:KvCacheGpu.KvUnsupportedException']"/>
    public async Task<KvRestored> LoadAsync(string name, KvSessionKey session = default, CancellationToken cancellationToken = default)
    {
        SnapshotStore store = Store();
        KvSessionKey key = KeyOf(session);
        KvRestored restored;
        try
        {
            restored = await Cache.LoadAsync(store, new SnapshotName(name, key.Tenant), null, null, cancellationToken).ConfigureAwait(false);
        }
        catch (KvSnapshotNotFoundException) when (Path.GetFileName(name) == name && File.Exists(Path.Combine(store.StorePath, name)))
        {
            string path = Path.Combine(store.StorePath, name);
            restored = await Cache.LoadFileAsync(path, Importers, StoreOptions(), null, key.Tenant, cancellationToken).ConfigureAwait(false);
        }

        Adopt(restored, key, session.Tenant);
        return restored;
    }

    private void Adopt(KvRestored restored, KvSessionKey key, string? tenant)
    {
        var replaced = new List<EngineSession>();
        EngineSession[] loaded = [.. restored.Sequences.Select(sequence => new EngineSession(sequence, tenant))];
        lock (_gate)
        {
            try
            {
                Refuse(restored, key, tenant);
            }
            catch
            {
                Array.ForEach(loaded, session => session.Dispose());
                throw;
            }

            foreach (EngineSession session in loaded)
            {
                KvSessionKey own = loaded.Length == 1 ? key : key with { Id = session.Sequence.Name };
                if (_sessions.Remove(own, out EngineSession? before))
                {
                    replaced.Add(before);
                }

                _sessions[own] = session;
            }
        }

        foreach (EngineSession session in replaced)
        {
            lock (session.Gate)
            {
                session.Dispose();
            }
        }
    }

    private void Refuse(KvRestored restored, KvSessionKey key, string? tenant)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        foreach (KvSequence sequence in restored.Sequences)
        {
            // A foreign file is nobody's; a snapshot's file is its tenant's, by whatever path it comes.
            if (sequence.Options.Tenant != key.Tenant && (restored.ImportedBy is null || sequence.Options.Tenant is not null))
            {
                throw new KvSnapshotNotFoundException("the snapshot", "one of this tenant", "one of another");
            }
        }

        ThrowIfOverQuota(tenant, restored.Sequences.Sum(sequence => (long)sequence.Length), except: restored.Sequences.Count == 1 ? key : (KvSessionKey?)null);
    }

    private SnapshotStore Store() => _config.Persistence is { EnablePersistence: true, PersistencePath: { } path }
        ? _store ??= new SnapshotStore(path, StoreOptions())
        : throw new KvConfigurationException("enable_persistence", "true, for sessions to be saved and loaded", "false");

    internal SnapshotOptions StoreOptions() => new() { Workers = _config.Execution.EnableAsync ? _config.Execution.AsyncThreads : 1 };
}
