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
        return Task.Run(() => LoadSnapshotFile(Path.GetFullPath(path), options, progress, cancellationToken), cancellationToken);
    }

    private KvRestored LoadSnapshotFile(string path, SnapshotOptions? options, IProgress<SnapshotProgress>? progress, CancellationToken cancel)
    {
        (string directory, string name) = (Path.GetDirectoryName(path) ?? "/", Path.GetFileName(path));
        try
        {
            StoreNames names = SnapshotOf(directory, name);
            var store = new SnapshotStore(directory, options);
            return Load(take => store.Load(names, take, cancel), null, progress, cancel);
        }
        catch (FileCallException error)
        {
            throw error.Error == FileCallException.NoEntry
                ? new KvSnapshotNotFoundException($"file {path}", "it to be there", "none", error)
                : new KvPersistenceException($"file {path}", "that it can be read", error.Message, error);
        }
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
