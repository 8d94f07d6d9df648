namespace KvCacheGpu;

/// <summary>
/// A directory of named snapshots. Saving replaces a snapshot in one step, whatever happens meanwhile, and keeps the generation
/// before; loading verifies every byte and, where the newest generation is bad, takes the one before and says so.
/// </summary>
/// <remarks>
/// Thread safety: members may be called from any thread; writers queue, and readers take no lock and may run beside a writer. Another process or store that
/// writes meanwhile gets <see cref="KvStoreBusyException"/>. A directory that every user writes to, or that is another user's, is refused (E003) unless
/// <see cref="SnapshotOptions.AcceptsSharedDirectory"/> says otherwise. On Linux, and on Windows, where it has not been tested. The format is drawn in docs/snapshot-format.md.
/// </remarks>
public sealed class SnapshotStore
{
    private readonly StorePlace _place;
    private readonly StoreReader _reader;
    private readonly StoreWriter _writer;

    /// <summary>A store in a directory; saving makes the directory (not its parents) if it is not there.</summary>
    /// <exception cref="ArgumentException">No path, or one that UTF-8 cannot say, which would be the path of another store.</exception>
    /// <exception cref="KvUnsupportedException">Neither on Linux nor on Windows.</exception>
    public SnapshotStore(string directory, SnapshotOptions? options = null)
        : this(directory, options ?? new SnapshotOptions(), StoreFiles.OfThisSystem)
    {
    }

    internal SnapshotStore(string directory, SnapshotOptions options, IStoreFiles files)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        KvText.WellFormed(directory, nameof(directory));
        _place = new StorePlace(files, Path.TrimEndingDirectorySeparator(Path.GetFullPath(directory)), options.Checked());
        (_reader, _writer) = (new StoreReader(_place), new StoreWriter(_place));
    }

    /// <summary>The directory, a full path.</summary>
    public string StorePath => _place.Path;

    /// <summary>Returns true if a file begins like one of a store: it belongs to <see cref="LoadFile"/>.</summary>
    /// <param name="firstBytes">The first bytes of the file, eight or more.</param>
    public static bool Recognises(ReadOnlySpan<byte> firstBytes) => firstBytes.StartsWith(FileHeader.Magic);

    /// <summary>Saves a snapshot. Once this returns, it is there, power loss or not.</summary>
    /// <param name="name">Its name; what was saved under the name before becomes the generation before.</param>
    /// <param name="content">Its description; must not change meanwhile.</param>
    /// <param name="pages">Copies pages out; called in order, by one thread at a time.</param>
    /// <param name="progress">Told how many bytes are done.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <exception cref="ArgumentException">The content does not hold together (<see cref="SnapshotContent.FirstFlaw"/>).</exception>
    /// <exception cref="KvPersistenceException">The disk refused (E005). What was there is there, unless the outcome is unknown.</exception>
    /// <exception cref="KvStoreBusyException">Another process or store is writing (E006).</exception>
    /// <exception cref="KvNewerVersionException">A later version of this library saved under this name (E007); it is untouched.</exception>
    public SnapshotInfo Save(
        SnapshotName name,
        SnapshotContent content,
        SnapshotPageReader pages,
        IProgress<SnapshotProgress>? progress = null,
        CancellationToken cancellationToken = default)
    {
        Check(name, content, pages);
        return _writer.Save(name, content, pages, null, progress, cancellationToken);
    }

    /// <summary>As <see cref="Save"/>, on another thread.</summary>
    /// <inheritdoc cref="Save"/>
    public Task<SnapshotInfo> SaveAsync(
        SnapshotName name,
        SnapshotContent content,
        SnapshotPageReader pages,
        IProgress<SnapshotProgress>? progress = null,
        CancellationToken cancellationToken = default)
    {
        Check(name, content, pages);
        return Task.Run(() => _writer.Save(name, content, pages, null, progress, cancellationToken), cancellationToken);
    }

    /// <summary>Deletes a snapshot with all its generations.</summary>
    /// <exception cref="KvSnapshotNotFoundException">There is none (E002).</exception>
    /// <exception cref="KvNewerVersionException">A later version of this library saved it (E007); it is untouched.</exception>
    public Task DeleteAsync(SnapshotName name, CancellationToken cancellationToken = default)
    {
        name.Check();
        return Task.Run(() => Delete(name, cancellationToken), cancellationToken);
    }

    /// <summary>
    /// Loads a snapshot into a target: its description, its pages in order, each verified, and at last
    /// <see cref="ISnapshotTarget.Complete"/>. Where a generation proves bad on the way, the target abandons it and the one before begins.
    /// </summary>
    /// <returns>The generation that was loaded; its <see cref="SnapshotInfo.Notice"/> says why if it is not the newest.</returns>
    /// <exception cref="KvSnapshotNotFoundException">There is none (E002).</exception>
    /// <exception cref="KvCorruptionException">No generation is whole (E004).</exception>
    /// <exception cref="KvNewerVersionException">A later version of this library saved it (E007); it is untouched.</exception>
    /// <exception cref="KvConfigurationException">It is encrypted and the store has no key, or the other way round (E003).</exception>
    public Task<SnapshotInfo> LoadAsync(
        SnapshotName name, ISnapshotTarget target, IProgress<SnapshotProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(target);
        name.Check();
        return Task.Run(() => Load(name, target, progress, cancellationToken), cancellationToken);
    }

    /// <summary>
    /// Shows a snapshot to <paramref name="take"/>, which reads its pages in any order. If <paramref name="take"/> meets damage, it throws what reading has thrown,
    /// leaves no trace, and is shown the generation before.
    /// </summary>
    /// <param name="name">Its name.</param>
    /// <param name="take">Reads the snapshot, which is open during the call only.</param>
    /// <param name="cancellationToken">Ends it between two generations.</param>
    /// <inheritdoc cref="LoadAsync" path="/*[not(self::summary or self::param)]"/>
    public SnapshotInfo Load(SnapshotName name, Action<OpenSnapshot> take, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(take);
        name.Check();
        return _reader.Load(name, take, cancellationToken);
    }

    /// <summary>As <see cref="Load(SnapshotName, Action{OpenSnapshot}, CancellationToken)"/>, for the snapshot that a file of this store belongs to.</summary>
    /// <param name="file">Name of the file, without a folder: any of the snapshot's.</param>
    /// <param name="take">Reads the snapshot, which is open during the call only.</param>
    /// <param name="cancellationToken">Ends it between two generations.</param>
    /// <exception cref="KvUnsupportedException">The file does not have the name that the store gave it (E009).</exception>
    /// <inheritdoc cref="LoadAsync" path="/*[not(self::summary or self::param)]"/>
    public SnapshotInfo LoadFile(string file, Action<OpenSnapshot> take, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(file);
        ArgumentNullException.ThrowIfNull(take);
        return _reader.LoadFile(file, take, cancellationToken);
    }

    /// <summary>Opens a snapshot of which every byte was verified, to read its pages in any order. Dispose it.</summary>
    /// <exception cref="KvSnapshotNotFoundException">There is none (E002).</exception>
    /// <exception cref="KvCorruptionException">No generation is whole (E004).</exception>
    /// <exception cref="KvNewerVersionException">A later version of this library saved it (E007); it is untouched.</exception>
    public Task<OpenSnapshot> OpenAsync(
        SnapshotName name, IProgress<SnapshotProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        name.Check();
        return Task.Run(() => Open(name, true, progress, cancellationToken), cancellationToken);
    }

    /// <summary>As <see cref="OpenAsync"/>, without reading the pages first: each is verified when it is read.</summary>
    public Task<OpenSnapshot> InspectAsync(SnapshotName name, CancellationToken cancellationToken = default)
    {
        name.Check();
        return Task.Run(() => Open(name, false, null, cancellationToken), cancellationToken);
    }

    /// <summary>Lists the store's snapshots by file name. Those that cannot be read are listed with a notice that says why.</summary>
    /// <exception cref="KvSnapshotNotFoundException">There is no store (E002).</exception>
    public Task<IReadOnlyList<SnapshotInfo>> ListAsync(CancellationToken cancellationToken = default) =>
        Task.Run(() => List(cancellationToken), cancellationToken);

    /// <summary>Reads every byte of every generation of a snapshot and says of each if it is whole, the newest first.</summary>
    /// <exception cref="KvSnapshotNotFoundException">There is none (E002).</exception>
    public Task<IReadOnlyList<SnapshotVerdict>> VerifyAsync(SnapshotName name, CancellationToken cancellationToken = default)
    {
        name.Check();
        return Task.Run(() => Verify(name, cancellationToken), cancellationToken);
    }

    /// <summary>
    /// Copies each snapshot's newest whole generation into the store at <paramref name="path"/>, as newest generation there. Each is
    /// copied whole or not at all; one that cannot be read does not keep the others from being copied, and is thrown at the end.
    /// </summary>
    /// <returns>The snapshots that were copied.</returns>
    public Task<IReadOnlyList<SnapshotInfo>> BackupAsync(
        string path, IProgress<SnapshotProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        SnapshotStore target = At(path);
        return Task.Run(() => target.CopyFrom(this, progress, cancellationToken), cancellationToken);
    }

    /// <summary>
    /// Copies each snapshot of the backup at <paramref name="path"/> into this store, as newest generation, after all of them were
    /// verified. Snapshots that are only here stay.
    /// </summary>
    /// <returns>The snapshots that were copied.</returns>
    /// <exception cref="KvCorruptionException">One of the backup is not whole; nothing here has changed (E004).</exception>
    public Task<IReadOnlyList<SnapshotInfo>> RestoreAsync(
        string path, IProgress<SnapshotProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        SnapshotStore source = At(path);
        return Task.Run(() => Restore(source, progress, cancellationToken), cancellationToken);
    }

    internal void Delete(SnapshotName name, CancellationToken cancel) => _writer.Delete(name, cancel);

    internal IReadOnlyList<SnapshotInfo> List(CancellationToken cancel) => _reader.List(cancel);

    internal IReadOnlyList<SnapshotVerdict> Verify(SnapshotName name, CancellationToken cancel) => _reader.Verify(name, cancel);

    internal IReadOnlyList<SnapshotInfo> CopyFrom(SnapshotStore source, IProgress<SnapshotProgress>? progress, CancellationToken cancel) =>
        _writer.CopyFrom(source._reader, progress, cancel);

    internal IReadOnlyList<SnapshotInfo> Restore(SnapshotStore source, IProgress<SnapshotProgress>? progress, CancellationToken cancel) =>
        _writer.RestoreFrom(source._reader, progress, cancel);

    internal OpenSnapshot Open(SnapshotName name, bool verify, IProgress<SnapshotProgress>? progress, CancellationToken cancel) =>
        _reader.Open(name, verify, progress, cancel);

    internal SnapshotInfo Load(SnapshotName name, ISnapshotTarget target, IProgress<SnapshotProgress>? progress, CancellationToken cancel) =>
        _reader.Load(name, snapshot =>
        {
            target.Begin(snapshot.Content);
            try
            {
                snapshot.ReadAll(target.Write, progress, cancel);
                target.Complete();
            }
            catch
            {
                target.Abandon();
                throw;
            }
        }, cancel);

    private SnapshotStore At(string path) => new(path, _place.Options, _place.Files);

    private static void Check(SnapshotName name, SnapshotContent content, SnapshotPageReader pages)
    {
        ArgumentNullException.ThrowIfNull(content);
        ArgumentNullException.ThrowIfNull(pages);
        name.Check();
        if (content.FirstFlaw() is { } flaw)
        {
            throw new ArgumentException($"expected {flaw}", nameof(content));
        }
    }
}
