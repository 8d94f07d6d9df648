namespace KvCacheGpu;

/// <summary>
/// An open snapshot: its description, and its pages when asked for. Whatever is saved meanwhile, it goes on reading the same bytes.
/// </summary>
/// <remarks>Thread safety: it is used by one thread at a time.</remarks>
public sealed class OpenSnapshot : IDisposable
{
    private readonly GenerationReader _reader;
    private readonly bool _isWithinStore;
    private bool _isDisposed;

    // Within the store's Load a failed file call passes through as it is: the store then shows an earlier generation.
    internal OpenSnapshot(SnapshotInfo info, GenerationReader reader, bool isWithinStore) => (Info, _reader, _isWithinStore) = (info, reader, isWithinStore);

    /// <summary>Its name, generation, size; its notice says so where it is not the newest generation.</summary>
    public SnapshotInfo Info { get; }

    /// <summary>Its description: geometry, page classes, sequences.</summary>
    public SnapshotContent Content => _reader.Content;

    /// <summary>Reads whole pages from any on, verified: a <see cref="SnapshotPageReader"/>.</summary>
    /// <exception cref="KvCorruptionException">They are not the pages that were written (E004).</exception>
    /// <exception cref="KvPersistenceException">The disk does not give them (E005).</exception>
    public void Read(int firstOrdinal, Span<byte> bytes) => Read(firstOrdinal, bytes, CancellationToken.None);

    /// <inheritdoc cref="Read(int, Span{byte})"/>
    public void Read(int firstOrdinal, Span<byte> bytes, CancellationToken cancellationToken)
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        try
        {
            _reader.ReadPages(firstOrdinal, bytes, cancellationToken);
        }
        catch (FileCallException error) when (!_isWithinStore)
        {
            throw Failed($"pages from {firstOrdinal} on", error);
        }
    }

    /// <summary>Reads all pages in order, several blocks at once.</summary>
    /// <param name="sink">Takes verified pages; called in order, by the calling thread.</param>
    /// <param name="progress">Told how many bytes are done.</param>
    /// <param name="cancellationToken">Ends the reading between two blocks.</param>
    /// <exception cref="KvCorruptionException">They are not the pages that were written (E004).</exception>
    /// <exception cref="KvPersistenceException">The disk does not give them (E005).</exception>
    public void ReadAll(SnapshotPageSink sink, IProgress<SnapshotProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(sink);
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        try
        {
            _reader.ReadPages(sink, progress, cancellationToken);
        }
        catch (FileCallException error) when (!_isWithinStore)
        {
            throw Failed("all pages", error);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (!_isDisposed)
        {
            _isDisposed = true;
            _reader.Dispose();
        }
    }

    private static KvPersistenceException Failed(string what, FileCallException error) => new(what, "that the file system gives them", error.Message, error);
}
