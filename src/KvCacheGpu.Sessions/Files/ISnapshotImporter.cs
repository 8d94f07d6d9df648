namespace KvCacheGpu;

/// <summary>
/// Reads caches that something else wrote. It is given to <see cref="KvCacheFileExtensions.LoadFileAsync"/>, which recognises a file by its bytes: the
/// first importer that can read it does. Pickles and files of torch.save need none. An importer knows files and nothing of pages: what it gives is
/// appended as if the model had computed it.
/// </summary>
public interface ISnapshotImporter
{
    /// <summary>First bytes of a file that an importer is shown, or all of a shorter one.</summary>
    const int FirstBytes = 4096;

    /// <summary>What it reads, as reports print it: "torch".</summary>
    string Name { get; }

    /// <summary>Returns true if it reads files that begin with these bytes. Must not throw, whatever they are.</summary>
    /// <param name="firstBytes">The file's first <see cref="FirstBytes"/> bytes, or all of it.</param>
    bool CanRead(ReadOnlySpan<byte> firstBytes);

    /// <summary>Opens a file: checks it whole, and says what it holds. The keys and values are asked for afterwards, layer by layer.</summary>
    /// <param name="file">The file, at its beginning; can seek, stays open until all was read.</param>
    /// <param name="cancellationToken">Ends it.</param>
    /// <exception cref="KvCorruptionException">The file is not whole, or not what it says (E004). Other exceptions are reported as that.</exception>
    ImportedCache Read(Stream file, CancellationToken cancellationToken);
}
