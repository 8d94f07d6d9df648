using System.Diagnostics;

namespace KvCacheGpu;

/// <summary>Saves, loads and imports sequences of a cache. Thread safety: as that of <see cref="KvCache"/>.</summary>
public static class KvCacheSnapshots
{
    /// <summary>
    /// Saves sequences while they and others go on: tokens, pages bit for bit as they lie, scores, pins, segments, metadata. Once this returns,
    /// the snapshot is there, power loss or not.
    /// </summary>
    /// <param name="cache">The cache.</param>
    /// <param name="store">Where to.</param>
    /// <param name="name">
    /// The snapshot's name. A snapshot that has the name already becomes the generation before. Under a tenant's name only the tenant's sequences are saved;
    /// one of no tenant is the host's own, and takes anyone's.
    /// </param>
    /// <param name="sequences">Which; null, the default, takes all that live, of the name's tenant if it names one. Each is saved as it is between two of its steps.</param>
    /// <param name="progress">Told how many bytes are done.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <remarks>
    /// Waits for a step or call under way on each sequence: do not block on it while the same thread has a step open. Sealed pages are held until they
    /// were written, so that dropping them meanwhile gives their bytes a little later; open ones are copied to host memory at once. A policy's own memory
    /// (<see cref="KvPolicy.CreateState"/>), the queries that are expected, and <see cref="KvSequenceReading.PageMass"/> are not saved.
    /// </remarks>
    /// <exception cref="ArgumentException">A sequence of another cache, or of another tenant than the name's, or two of one name and tenant.</exception>
    /// <exception cref="ObjectDisposedException">A named sequence, or the cache, was disposed before its pages were written.</exception>
    /// <exception cref="KvPersistenceException">The disk refused (E005). What was there is there, unless the outcome is unknown.</exception>
    /// <exception cref="KvStoreBusyException">Another process or store is writing (E006).</exception>
    /// <exception cref="KvNewerVersionException">A later version of this library saved under this name (E007); it is untouched.</exception>
    /// <include file="../../docs/api/examples.xml" path="examples/of[@name='KvCacheSnapshots.SaveAsync']/*"/>
    public static Task<SnapshotInfo> SaveAsync(
        this KvCache cache,
        SnapshotStore store,
        SnapshotName name,
        IReadOnlyCollection<KvSequence>? sequences = null,
        IProgress<SnapshotProgress>? progress = null,
        CancellationToken cancellationToken = default)
    {
        Check(cache, store, name);
        KvSequence[]? chosen = sequences?.ToArray();
        foreach (KvSequence sequence in chosen ?? [])
        {
            ThrowIfNotMine(cache, sequence, nameof(sequences));
            SnapshotSaving.ThrowIfOfAnother(name, sequence.Options, nameof(sequences));
        }

        SequenceState[]? states = chosen is null ? null : Array.ConvertAll(chosen, sequence => sequence.State);
        return Run(CacheOperation.Save, cache, name.Name, () => SnapshotSaving.Save(cache.State, store, name, states, progress, cancellationToken), CacheOperation.Describe, cancellationToken);
    }

    /// <summary>
    /// Loads sequences of a snapshot beside those that live. Verified whole first; refused, it leaves no trace. If formats, rotation or page
    /// size differ, pages are written anew, and the result says so.
    /// </summary>
    /// <param name="cache">The cache.</param>
    /// <param name="store">Where from.</param>
    /// <param name="name">The snapshot's name.</param>
    /// <param name="ids">Names of the sequences; null, the default, takes all.</param>
    /// <param name="progress">Told how far it is.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <returns>The sequences, and what of them is not as it was saved.</returns>
    /// <remarks>
    /// A budget that does not hold them all is up to the policy: it drops pages of the new sequences, never of those that live. The room that steps
    /// leave free stays free, so that pages which demotions had filled to the brim want a larger budget. Prefixes are published again. On a cache that
    /// has taken fewer steps, steps go on counting from the snapshot's. A policy that learns, as the adaptive one does, begins to weigh anew.
    /// </remarks>
    /// <exception cref="KvOutOfMemoryException">E001: the budget does not hold them, and no policy may drop enough.</exception>
    /// <exception cref="KvSnapshotNotFoundException">There is no such snapshot, or sequence in it, or it is a tenant's and holds another's sequences (E002).</exception>
    /// <exception cref="KvConfigurationException">It is of another model, or encrypted otherwise than the store is (E003).</exception>
    /// <exception cref="KvCorruptionException">No generation is whole (E004).</exception>
    /// <exception cref="KvNewerVersionException">A later version of this library saved it (E007); it is untouched.</exception>
    /// <exception cref="KvUnsupportedException">Its pages cannot become pages of this cache (E009).</exception>
    /// <include file="../../docs/api/examples.xml" path="examples/of[@name='KvCacheSnapshots.LoadAsync']/*"/>
    public static Task<KvRestored> LoadAsync(
        this KvCache cache,
        SnapshotStore store,
        SnapshotName name,
        IReadOnlyCollection<string>? ids = null,
        IProgress<SnapshotProgress>? progress = null,
        CancellationToken cancellationToken = default)
    {
        Check(cache, store, name);
        return Run(
            CacheOperation.Load, cache, name.Name, () => KvRestored.Of(cache, Loading(cache, ids).Load(store, name, progress, cancellationToken)), (activity, restored) => CacheOperation.Describe(activity, restored.Snapshot), cancellationToken);
    }

    /// <summary>Loads the snapshot that a file of a store belongs to, from whichever of its files; see <see cref="SnapshotStore.Recognises"/>.</summary>
    /// <param name="cache">The cache.</param>
    /// <param name="path">The file; not a symbolic link.</param>
    /// <param name="options">How its store is read: its key. The default value is null: as <see cref="SnapshotStore"/> has it.</param>
    /// <param name="progress">Told how many bytes are done.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <returns>The sequences, as <see cref="LoadAsync"/> gives them.</returns>
    /// <exception cref="KvUnsupportedException">It is not a file of a snapshot, or no longer called as its store called it (E009).</exception>
    /// <inheritdoc cref="LoadAsync" path="/exception"/>
    public static Task<KvRestored> LoadSnapshotFileAsync(
        this KvCache cache, string path, SnapshotOptions? options = null, IProgress<SnapshotProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(cache);
        ArgumentException.ThrowIfNullOrEmpty(path);
        KvText.WellFormed(path, nameof(path));
        cache.State.ThrowIfDisposed();
        string whole = Path.GetFullPath(path);
        var store = new SnapshotStore(Path.GetDirectoryName(whole) ?? "/", options);
        return Run(
            CacheOperation.Load, cache, null, () => KvRestored.Of(cache, Loading(cache, null).LoadFile(store, Path.GetFileName(whole), progress, cancellationToken)), (activity, restored) => CacheOperation.Describe(activity, restored.Snapshot), cancellationToken);
    }

    /// <summary>
    /// Appends sequences whose keys and values something else has computed, as if the model had: all of them, or none. A policy makes room as for any
    /// other step.
    /// </summary>
    /// <param name="cache">The cache.</param>
    /// <param name="found">The sequences.</param>
    /// <param name="importedBy">Who has read them; becomes <see cref="KvRestored.ImportedBy"/>.</param>
    /// <param name="progress">Told how many tokens are done.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <returns>The sequences, and what there is to say of them.</returns>
    /// <exception cref="KvConfigurationException">They are of a model of another shape or name (E003).</exception>
    /// <exception cref="KvCorruptionException">A sequence has no token, or ids for some of its tokens only (E004).</exception>
    /// <exception cref="KvNonFiniteException">E004: a number that the page formats do not hold.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: the budget does not hold them.</exception>
    public static Task<KvRestored> ImportAsync(
        this KvCache cache, ImportedCache found, string importedBy, IProgress<SnapshotProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(cache);
        ArgumentNullException.ThrowIfNull(found);
        ArgumentException.ThrowIfNullOrEmpty(importedBy);
        cache.State.ThrowIfDisposed();
        return Run(CacheOperation.Import, cache, null, () => new SequenceImport(cache, found, importedBy).Run(progress, cancellationToken), Describe, cancellationToken);
    }

    private static Task<T> Run<T>(
        CacheOperation operation, KvCache cache, string? snapshot, Func<T> work, Action<Activity, T> describe, CancellationToken cancel) =>
        Task.Run(() => operation.Run(cache.State.Counts, work, describe, snapshot), cancel);

    private static void Describe(Activity activity, KvRestored imported) =>
        CacheOperation.Describe(activity, imported.Sequences.Count, imported.Sequences.Sum(sequence => (long)sequence.Length), imported.Sequences.Sum(sequence => sequence.AllocatedBytes));

    private static void Check(KvCache cache, SnapshotStore store, SnapshotName name)
    {
        ArgumentNullException.ThrowIfNull(cache);
        ArgumentNullException.ThrowIfNull(store);
        cache.State.ThrowIfDisposed();
        name.Check();
    }

    private static void ThrowIfNotMine(KvCache cache, KvSequence sequence, string name)
    {
        ArgumentNullException.ThrowIfNull(sequence, name);
        sequence.ThrowIfDisposed();
        if (sequence.Cache != cache)
        {
            throw new ArgumentException("expected sequences of this cache, got one of another", name);
        }
    }

    private static SnapshotLoading Loading(KvCache cache, IReadOnlyCollection<string>? ids) => new(cache.State, cache.Life, cache.Pressure?.Evictor, ids);
}
