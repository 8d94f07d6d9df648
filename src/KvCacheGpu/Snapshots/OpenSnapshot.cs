namespace KvCacheGpu;

/// <summary>An open snapshot: its description, and its pages when asked for. Used by one thread at a time; what it reads stays the same whatever is saved meanwhile.</summary>
public sealed class OpenSnapshot : IDisposable
{
    private readonly GenerationReader _reader;
    private bool _isDisposed;

    internal OpenSnapshot(SnapshotInfo info, GenerationReader reader) => (Info, _reader) = (info, reader);

    /// <summary>What it is; its notice says so where it is not the newest generation.</summary>
    public SnapshotInfo Info { get; }

    /// <summary>What it says of its pages.</summary>
    public SnapshotContent Content => _reader.Content;

    /// <summary>Reads whole pages from any on, verified: a <see cref="SnapshotPageReader"/>.</summary>
    /// <exception cref="KvCorruptionException">They are not what was written (E004).</exception>
    /// <exception cref="KvPersistenceException">The disk does not give them (E005).</exception>
    public void Read(int firstOrdinal, Span<byte> bytes)
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        try
        {
            _reader.ReadPages(firstOrdinal, bytes, CancellationToken.None);
        }
        catch (FileCallException error)
        {
            throw new KvPersistenceException($"pages from {firstOrdinal} on", "that the file system gives them", error.Message, error);
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
}
