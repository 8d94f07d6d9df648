using KvCacheGpu.Import;
using Microsoft.Win32.SafeHandles;

namespace KvCacheGpu;

/// <content>Loading a file by what it holds.</content>
public sealed partial class KvCache
{
    /// <summary>
    /// Loads a file by its bytes, whatever it is called: any file of a snapshot in its store, what an importer reads, or an old cache, which is
    /// a pickle or a file of torch.save. Refused, it leaves no trace, and the file is never written.
    /// </summary>
    /// <param name="path">The file; no symbolic link.</param>
    /// <param name="importers">Readers of foreign files, asked in order before the one of old caches. The default is none.</param>
    /// <param name="options">How a snapshot's store is read: its key. The default value is null: as <see cref="SnapshotStore"/> has it.</param>
    /// <param name="progress">Told how far it is: bytes of a snapshot, tokens of an import.</param>
    /// <param name="cancellationToken">Leaves all as it was.</param>
    /// <returns>The sequences; <see cref="KvRestored.ImportedBy"/> says who read a foreign file.</returns>
    /// <remarks>
    /// An imported file is appended by steps, for which a policy makes way as for any other. Axes of an old cache are told apart by this cache's
    /// shape; entries of it that are no keys and values of the model are left out, and <see cref="KvRestored.Notes"/> names them.
    /// </remarks>
    /// <exception cref="KvUnsupportedException">Neither a snapshot nor anything that is read here (E009).</exception>
    /// <exception cref="KvCorruptionException">It is not whole (E004).</exception>
    /// <exception cref="KvNewerVersionException">A later version of this library saved it (E007); it is untouched.</exception>
    /// <exception cref="KvConfigurationException">It is of another model (E003).</exception>
    /// <exception cref="KvOutOfMemoryException">E001: the budget does not hold it.</exception>
    /// <exception cref="KvPersistenceException">It cannot be read (E005).</exception>
    public Task<KvRestored> LoadFileAsync(
        string path,
        IReadOnlyList<ISnapshotImporter>? importers = null,
        SnapshotOptions? options = null,
        IProgress<SnapshotProgress>? progress = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        KvText.WellFormed(path, nameof(path));
        ObjectDisposedException.ThrowIf(_disposed, this);
        return Task.Run(() => LoadFile(Path.GetFullPath(path), importers ?? [], options, null, progress, cancellationToken), cancellationToken);
    }

    /// <summary>The same for a tenant: sequences of a foreign file that names no tenant become this one's.</summary>
    internal Task<KvRestored> LoadFileForAsync(
        string? tenant, string path, IReadOnlyList<ISnapshotImporter> importers, SnapshotOptions? options, CancellationToken cancellationToken) =>
        Task.Run(() => LoadFile(Path.GetFullPath(path), importers, options, tenant, null, cancellationToken), cancellationToken);

    private KvRestored LoadFile(
        string path,
        IReadOnlyList<ISnapshotImporter> importers,
        SnapshotOptions? options,
        string? tenant,
        IProgress<SnapshotProgress>? progress,
        CancellationToken cancel)
    {
        (string directory, string name) = (Path.GetDirectoryName(path) ?? "/", Path.GetFileName(path));
        try
        {
            LibcFiles files = LibcFiles.Instance;
            using var folder = new OpenFile(files, files.OpenDirectory(directory));
            using OpenFile file = folder.Open(name, FileUse.Read);
            byte[] first = new byte[Math.Min(file.Length, ISnapshotImporter.FirstBytes)];
            file.Read(first, 0);
            if (SnapshotStore.Recognises(first))
            {
                var store = new SnapshotStore(directory, options);
                return Load(take => store.LoadFile(name, take, cancel), null, progress, cancel);
            }

            ISnapshotImporter[] readers = [.. importers, OldCaches()];
            ISnapshotImporter importer = Array.Find(readers, one => one.CanRead(first)) ?? throw new KvUnsupportedException(
                $"file {name}", $"a snapshot, or what one of the importers reads ({string.Join(", ", readers.Select(one => one.Name))})", CacheFile.KindOf(first) ?? "neither");
            using var stream = new FileStream(new SafeFileHandle(file.Descriptor, ownsHandle: false), FileAccess.Read);

            // Asking for its length has moved the descriptor to its end.
            stream.Position = 0;
            return Import(stream, importer, name, tenant, progress, cancel);
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

    private CacheFileImporter OldCaches() => new(new ImportGeometry(Geometry.Layers, Geometry.KvHeads, Geometry.KeyWidth, Geometry.ValueWidth));

    private KvRestored Import(
        Stream file, ISnapshotImporter importer, string name, string? tenant, IProgress<SnapshotProgress>? progress, CancellationToken cancel)
    {
        try
        {
            ImportedCache found = importer.Read(file, cancel);
            found = found with { Sequences = [.. found.Sequences.Select(sequence => sequence with { Tenant = sequence.Tenant ?? tenant })] };
            return new FileImport(this, found, importer.Name).Run(progress, cancel);
        }
        catch (ImportException error)
        {
            string what = $"file {name}, {error.Subject}{(error.Offset is { } at ? $" at byte {at}" : string.Empty)}";
            throw error.Code == "E009"
                ? new KvUnsupportedException(what, error.Expected, error.Actual, error)
                : new KvCorruptionException(what, error.Expected, error.Actual, error);
        }
        catch (Exception error) when (error is not (KvCacheException or OperationCanceledException or ObjectDisposedException))
        {
            throw new KvCorruptionException($"file {name}", $"what {importer.Name} reads", error.Message, error);
        }
    }
}
