using KvCacheGpu.Import;
using Microsoft.Win32.SafeHandles;

namespace KvCacheGpu;

/// <summary>Loads a file into a cache by what the file holds.</summary>
public static class KvCacheFileExtensions
{
    /// <summary>
    /// Loads a file by its bytes, whatever it is called: a file of a snapshot in its store, what an importer reads, or an old cache, which is
    /// a pickle or a file of torch.save. If it is refused, nothing has changed; the file is never written.
    /// </summary>
    /// <param name="cache">The cache that it is loaded into.</param>
    /// <param name="path">The file; not a symbolic link.</param>
    /// <param name="importers">Readers of foreign files, asked in order before the one of old caches. The default is none.</param>
    /// <param name="options">How a snapshot's store is read: its key. The default value is null: as <see cref="SnapshotStore"/> has it.</param>
    /// <param name="progress">Told how far it is: bytes of a snapshot, tokens of an import.</param>
    /// <param name="tenant">Whose the sequences of a foreign file become that names no tenant. The default value is null: nobody's.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <returns>The sequences; <see cref="KvRestored.ImportedBy"/> says who read a foreign file.</returns>
    /// <remarks>
    /// An imported file is appended by steps, for which a policy makes room as for any other. Axes of an old cache are told apart by the cache's
    /// shape; its entries that are not keys and values of the model are left out, and <see cref="KvRestored.Notes"/> names them.
    /// </remarks>
    /// <exception cref="KvUnsupportedException">Neither a snapshot nor anything that is read here (E009).</exception>
    /// <exception cref="KvCorruptionException">It is not whole (E004).</exception>
    /// <exception cref="KvNewerVersionException">A later version of this library saved it (E007); it is untouched.</exception>
    /// <exception cref="KvConfigurationException">It is of another model (E003).</exception>
    /// <exception cref="KvOutOfMemoryException">E001: the budget does not hold it.</exception>
    /// <exception cref="KvSnapshotNotFoundException">There is no such file (E002).</exception>
    /// <exception cref="KvPersistenceException">It cannot be read (E005).</exception>
    public static Task<KvRestored> LoadFileAsync(
        this KvCache cache,
        string path,
        IReadOnlyList<ISnapshotImporter>? importers = null,
        SnapshotOptions? options = null,
        IProgress<SnapshotProgress>? progress = null,
        string? tenant = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(cache);
        ArgumentException.ThrowIfNullOrEmpty(path);
        KvText.WellFormed(path, nameof(path));
        ISnapshotImporter[] readers = [.. importers ?? [], OldCaches(cache.Geometry)];
        return Task.Run(() => LoadAsync(cache, Path.GetFullPath(path), readers, options, tenant, progress, cancellationToken), cancellationToken);
    }

    private static async Task<KvRestored> LoadAsync(
        KvCache cache,
        string path,
        ISnapshotImporter[] readers,
        SnapshotOptions? options,
        string? tenant,
        IProgress<SnapshotProgress>? progress,
        CancellationToken cancel)
    {
        try
        {
            IStoreFiles files = StoreFiles.OfThisSystem;
            using var folder = new OpenFile(files, files.OpenDirectory(Path.GetDirectoryName(path) ?? "/"));
            using OpenFile file = folder.Open(Path.GetFileName(path), FileUse.Read);
            byte[] first = new byte[Math.Min(file.Length, ISnapshotImporter.FirstBytes)];
            file.Read(first, 0);
            return SnapshotStore.Recognises(first)
                ? await cache.LoadSnapshotFileAsync(path, options, progress, cancel).ConfigureAwait(false)
                : await ImportAsync(cache, file, new ForeignSource(Path.GetFileName(path), first, tenant), readers, progress, cancel).ConfigureAwait(false);
        }
        catch (FileCallException error) when (error.Error == FileCallException.NoEntry)
        {
            throw new KvSnapshotNotFoundException($"file {path}", "it to be there", "none", error);
        }
        catch (FileCallException error)
        {
            throw new KvPersistenceException($"file {path}", "that it can be read", error.Message, error);
        }
    }

    private static async Task<KvRestored> ImportAsync(
        KvCache cache, OpenFile file, ForeignSource source, ISnapshotImporter[] readers, IProgress<SnapshotProgress>? progress, CancellationToken cancel)
    {
        ISnapshotImporter importer = Array.Find(readers, one => one.CanRead(source.First)) ?? throw new KvUnsupportedException(
            $"file {source.Name}",
            $"a snapshot, or what one of the importers reads ({string.Join(", ", readers.Select(one => one.Name))})",
            CacheFile.KindOf(source.First) ?? "neither");
        using var stream = new FileStream(new SafeFileHandle(file.Descriptor, ownsHandle: false), FileAccess.Read);

        // Asking for its length has moved the descriptor to its end.
        stream.Position = 0;
        try
        {
            ImportedCache found = importer.Read(stream, cancel);
            found = found with { Sequences = [.. found.Sequences.Select(sequence => sequence with { Tenant = sequence.Tenant ?? source.Tenant })] };
            return await cache.ImportAsync(found, importer.Name, progress, cancel).ConfigureAwait(false);
        }
        catch (ImportException error)
        {
            string what = $"file {source.Name}, {error.Subject}{(error.Offset is { } at ? $" at byte {at}" : string.Empty)}";
            throw error.Code == "E009"
                ? new KvUnsupportedException(what, error.Expected, error.Actual, error)
                : new KvCorruptionException(what, error.Expected, error.Actual, error);
        }
        catch (Exception error) when (error is not (KvCacheException or OperationCanceledException or ObjectDisposedException))
        {
            throw new KvCorruptionException($"file {source.Name}", $"what {importer.Name} reads", error.Message, error);
        }
    }

    private static CacheFileImporter OldCaches(KvGeometry geometry) =>
        new(new ImportGeometry(geometry.Layers, geometry.KvHeads, geometry.KeyWidth, geometry.ValueWidth));

    private sealed record ForeignSource(string Name, byte[] First, string? Tenant);
}
