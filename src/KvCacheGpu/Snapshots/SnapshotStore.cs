namespace KvCacheGpu;

/// <summary>
/// A directory of named snapshots. Saving replaces a snapshot in one step, whatever happens meanwhile, and keeps the generation
/// before; loading verifies every byte and, where the newest generation is bad, takes the one before and says so.
/// </summary>
/// <remarks>
/// One writer at a time: within a store calls queue, another process or store gets <see cref="KvStoreBusyException"/>. Readers take no
/// lock and may run beside a writer. A directory that every user writes to, or that is another user's, is refused (E003) unless
/// <see cref="SnapshotOptions.AcceptsSharedDirectory"/> says otherwise. Linux only. The format is drawn in docs/snapshot-format.md.
/// </remarks>
public sealed partial class SnapshotStore
{
    private static readonly TimeSpan CancelPoll = TimeSpan.FromMilliseconds(20);

    private readonly IStoreFiles _files;
    private readonly SnapshotOptions _options;
    private readonly Lock _writing = new();

    /// <summary>A store in a directory; saving makes it (not its parents) where there is none.</summary>
    /// <exception cref="ArgumentException">No path, or one that UTF-8 cannot say, which would be the path of another store.</exception>
    /// <exception cref="KvUnsupportedException">Not on Linux.</exception>
    public SnapshotStore(string directory, SnapshotOptions? options = null)
        : this(directory, options ?? new SnapshotOptions(), LibcFiles.Instance)
    {
    }

    internal SnapshotStore(string directory, SnapshotOptions options, IStoreFiles files)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        KvText.WellFormed(directory, nameof(directory));
        (StorePath, _options, _files) = (Path.TrimEndingDirectorySeparator(Path.GetFullPath(directory)), options.Checked(), files);
    }

    /// <summary>The directory, whole.</summary>
    public string StorePath { get; }

    /// <summary>Saves a snapshot. Once this returns, it is there, power loss or not.</summary>
    /// <param name="name">What it is called; what was saved under the name before becomes the generation before.</param>
    /// <param name="content">What it holds; must not change meanwhile.</param>
    /// <param name="pages">Copies pages out; called in order, by one thread at a time.</param>
    /// <param name="progress">Told how many bytes are done.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <exception cref="ArgumentException">The content does not hold together.</exception>
    /// <exception cref="KvPersistenceException">The disk refused (E005). What was there is there, unless the outcome is unknown.</exception>
    /// <exception cref="KvStoreBusyException">Another process or store is writing (E006).</exception>
    /// <exception cref="KvNewerVersionException">A later version of this library saved under this name (E007); it is untouched.</exception>
    public Task<SnapshotInfo> SaveAsync(
        SnapshotName name,
        SnapshotContent content,
        SnapshotPageReader pages,
        IProgress<SnapshotProgress>? progress = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(content);
        ArgumentNullException.ThrowIfNull(pages);
        name.Check();
        if (ContentCheck.FirstFlaw(content) is { } flaw)
        {
            throw new ArgumentException($"expected {flaw}", nameof(content));
        }

        return Task.Run(() => Save(name, content, pages, null, progress, cancellationToken), cancellationToken);
    }

    /// <summary>Deletes a snapshot with all its generations.</summary>
    /// <exception cref="KvSnapshotNotFoundException">There is none (E002).</exception>
    /// <exception cref="KvNewerVersionException">A later version of this library saved it (E007); it is untouched.</exception>
    public Task DeleteAsync(SnapshotName name, CancellationToken cancellationToken = default)
    {
        name.Check();
        return Task.Run(() => Delete(name, cancellationToken), cancellationToken);
    }

    internal SnapshotInfo Save(
        SnapshotName name,
        SnapshotContent content,
        SnapshotPageReader pages,
        DateTimeOffset? created,
        IProgress<SnapshotProgress>? progress,
        CancellationToken cancel)
    {
        var work = new SaveWork(name, content, pages, created ?? _options.Clock.GetUtcNow(), _options.BlockBytes, progress, cancel);
        var names = new StoreNames(Convert.ToHexStringLower(name.ToHash()));
        return Writing(() =>
        {
            using StoreFolder folder = StoreFolder.OpenOrMake(_files, StorePath, _options.AcceptsSharedDirectory);
            using OpenFile held = folder.Lock();
            var past = new StorePast(folder, names);
            folder.Sweep(past.Leftovers());
            SnapshotManifest manifest = new SnapshotCommit(folder, names, past.NextGeneration()).Save(work, _options);
            SyncLast(folder, $"snapshot '{name}'");
            folder.Sweep(past.Expired(manifest.Generation));
            return InfoOf(names, manifest, null);
        }, cancel);
    }

    internal void Delete(SnapshotName name, CancellationToken cancel)
    {
        var names = new StoreNames(Convert.ToHexStringLower(name.ToHash()));
        Writing(() =>
        {
            using StoreFolder folder = StoreFolder.Open(_files, StorePath, _options.AcceptsSharedDirectory);
            using OpenFile held = folder.Lock();
            var past = new StorePast(folder, names);
            if (!past.HasCurrent)
            {
                throw NotFound($"{name}");
            }

            // Without CURRENT there is no snapshot: this one step deletes it, the rest is tidying.
            folder.Directory.Remove(names.Current);
            SyncLast(folder, $"deletion of snapshot '{name}'");
            folder.Sweep(past.Everything());
            return 0;
        }, cancel);
    }

    private KvSnapshotNotFoundException NotFound(string name) => new($"snapshot '{name}'", $"it in {StorePath}", "none of that name");

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
            return Guarded(write);
        }
        finally
        {
            _writing.Exit();
        }
    }

    private T Guarded<T>(Func<T> work)
    {
        try
        {
            return work();
        }
        catch (FileCallException error)
        {
            string what = error.OutcomeUnknown ? $"{error.Message}; whether it was done cannot be found out" : error.Message;
            throw new KvPersistenceException($"store {StorePath}", "that the file system does as asked", what, error, error.OutcomeUnknown);
        }
    }

    private static SnapshotInfo InfoOf(StoreNames names, SnapshotManifest manifest, string? notice) => new()
    {
        Name = manifest.Name,
        FileName = names.Hash,
        Generation = manifest.Generation,
        Version = manifest.Version,
        Created = manifest.Created,
        Sequences = manifest.Sequences,
        Tokens = manifest.Tokens,
        Pages = manifest.Pages,
        Bytes = manifest.DecodedBytes,
        StoredBytes = manifest.BlocksLength + manifest.ManifestLength,
        IsEncrypted = manifest.IsEncrypted,
        Notice = notice,
    };
}
