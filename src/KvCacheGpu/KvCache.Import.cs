namespace KvCacheGpu;

/// <content>Loading what another cache, or something else, has computed.</content>
public sealed partial class KvCache
{
    /// <summary>
    /// Appends sequences whose keys and values something else has computed, as if the model had: all of them, or none. A policy makes room as for any
    /// other step.
    /// </summary>
    /// <param name="found">The sequences.</param>
    /// <param name="importedBy">Who has read them; becomes <see cref="KvRestored.ImportedBy"/>.</param>
    /// <param name="progress">Told how many tokens are done.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <returns>The sequences, and what there is to say of them.</returns>
    /// <exception cref="KvConfigurationException">They are of a model of another shape or name (E003).</exception>
    /// <exception cref="KvCorruptionException">A sequence has no token, or ids for some of its tokens only (E004).</exception>
    /// <exception cref="KvNonFiniteException">E004: a number that the page formats do not hold.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: the budget does not hold them.</exception>
    public Task<KvRestored> ImportAsync(
        ImportedCache found, string importedBy, IProgress<SnapshotProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(found);
        ArgumentException.ThrowIfNullOrEmpty(importedBy);
        ObjectDisposedException.ThrowIf(_disposed, this);
        return Task.Run(() => new SequenceImport(this, found, importedBy).Run(progress, cancellationToken), cancellationToken);
    }

    /// <summary>Loads the snapshot that a file of a store belongs to, from whichever of its files; see <see cref="SnapshotStore.Recognises"/>.</summary>
    /// <param name="path">The file; not a symbolic link.</param>
    /// <param name="options">How its store is read: its key. The default value is null: as <see cref="SnapshotStore"/> has it.</param>
    /// <param name="progress">Told how many bytes are done.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <returns>The sequences, as <see cref="LoadAsync"/> gives them.</returns>
    /// <exception cref="KvUnsupportedException">It is not a file of a snapshot, or no longer called as its store called it (E009).</exception>
    /// <inheritdoc cref="LoadAsync" path="/exception"/>
    public Task<KvRestored> LoadSnapshotFileAsync(
        string path, SnapshotOptions? options = null, IProgress<SnapshotProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        KvText.WellFormed(path, nameof(path));
        ObjectDisposedException.ThrowIf(_disposed, this);
        string whole = Path.GetFullPath(path);
        var store = new SnapshotStore(Path.GetDirectoryName(whole) ?? "/", options);
        return Task.Run(
            () => Load(take => store.LoadFile(Path.GetFileName(whole), take, cancellationToken), null, progress, cancellationToken), cancellationToken);
    }
}
