namespace KvCacheGpu;

/// <summary>
/// A tier in a folder of a disk. What is written is served again when the folder is opened anew. It is a cache: nothing is synced, and whatever a crash tore is found
/// by checksums and is a miss. On Linux, and on Windows, where it has not been tested. The files are drawn in docs/tiers.md.
/// </summary>
/// <remarks>
/// Blocks are appended to files of 64 MiB, of a tenth of a small limit, or of 1/256 of a large one. Where the limit is reached, the file goes that was used longest
/// ago, with all its blocks; a file of which any block is read stays. Blocks that are written together are mostly those of one prefix, and are used together;
/// copying single blocks out of old files would write everything that is in use again and again.
/// Thread safety: members may be called from any thread; writers queue, and the blocks of a run are read by several threads. Calls that run while it is disposed end
/// as they would have; later ones are misses.
/// </remarks>
public sealed class KvDiskTier : KvTier, IDisposable
{
    /// <summary>The file whose lock says that a process has the folder.</summary>
    internal const string LockName = "LOCK";

    // A cold disk has several requests at a time, and several cores compute checksums.
    private const int MostReaders = 4;

    private readonly Lock _writing = new();
    private readonly DiskIndex _index = new();
    private readonly OpenFile _directory;
    private readonly OpenFile _lock;
    private readonly DiskWriter _writer;
    private readonly long _limit;
    private readonly int _readers;
    private bool _isDisposed;

    /// <summary>Opens a folder, and makes it (not its parents) if it is not there. It reads 64 bytes for each block.</summary>
    /// <param name="directory">The folder. Nobody but this user, and its group, may write to it.</param>
    /// <param name="bytesLimit">Bytes of the files that it may have.</param>
    /// <exception cref="ArgumentException">No path, or one that UTF-8 cannot say.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The limit is below 1.</exception>
    /// <exception cref="KvConfigurationException">Others may write to the folder (E003).</exception>
    /// <exception cref="KvPersistenceException">The folder cannot be opened (E005).</exception>
    /// <exception cref="KvStoreBusyException">Another process or tier has it (E006).</exception>
    /// <exception cref="KvUnsupportedException">Neither on Linux nor on Windows (E009).</exception>
    public KvDiskTier(string directory, long bytesLimit)
        : this(directory, bytesLimit, StoreFiles.OfThisSystem, MostReaders)
    {
    }

    internal KvDiskTier(string directory, long bytesLimit, IStoreFiles files, int readers)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        KvText.WellFormed(directory, nameof(directory));
        ArgumentOutOfRangeException.ThrowIfLessThan(bytesLimit, 1);
        Directory = Path.TrimEndingDirectorySeparator(Path.GetFullPath(directory));
        (_limit, _readers) = (bytesLimit, readers);
        string what = $"tier {Directory}";
        try
        {
            _directory = OwnDirectory.OpenOrMake(files, Directory, what);
            try
            {
                _lock = OwnDirectory.Lock(_directory, LockName, what);
                _writer = new DiskWriter(_directory, _index, bytesLimit, NoteError);
            }
            catch
            {
                Close();
                throw;
            }
        }
        catch (FileCallException error)
        {
            throw new KvPersistenceException(what, "that the file system does as asked", error.Message, error);
        }
    }

    /// <summary>The folder, a full path.</summary>
    public string Directory { get; }

    /// <inheritdoc/>
    public override string Name => "disk";

    /// <summary>Bytes of the files that it has.</summary>
    public override long? BytesInUse => _index.Bytes;

    /// <summary>Bytes of the files that it may have.</summary>
    public override long? BytesLimit => _limit;

    /// <summary>Closes the folder. What is in it stays.</summary>
    public void Dispose()
    {
        lock (_writing)
        {
            if (!_isDisposed)
            {
                _isDisposed = true;
                Close();
            }
        }
    }

    /// <inheritdoc/>
    protected override ValueTask<int> ReadBlocksAsync(ReadOnlyMemory<BlockHash> keys, Memory<byte> blocks, CancellationToken cancellationToken) =>
        new(Task.Run(() => Read(keys, blocks, cancellationToken), cancellationToken));

    /// <inheritdoc/>
    protected override ValueTask<int> WriteBlocksAsync(ReadOnlyMemory<BlockHash> keys, ReadOnlyMemory<byte> blocks, CancellationToken cancellationToken) =>
        new(Task.Run(() => Write(keys.Span, blocks.Span, cancellationToken), cancellationToken));

    private int Read(ReadOnlyMemory<BlockHash> keys, Memory<byte> blocks, CancellationToken cancel)
    {
        int length = blocks.Length / keys.Length;
        var places = new DiskPlace[keys.Length];
        int found = _index.Take(keys.Span, length, places);
        try
        {
            bool[] isRead = new bool[found];
            var options = new ParallelOptions { MaxDegreeOfParallelism = _readers, CancellationToken = cancel };
            Parallel.For(0, found, options, i => isRead[i] = TryRead(keys.Span[i], places[i], blocks.Span.Slice(i * length, length)));
            return Array.IndexOf(isRead, false) is >= 0 and int missing ? missing : found;
        }
        finally
        {
            _index.Release(places.AsSpan(0, found));
        }
    }

    private bool TryRead(in BlockHash key, in DiskPlace place, Span<byte> block)
    {
        try
        {
            place.Segment.Read(place.Slot, place.Sum, block);
            return true;
        }
        catch (KvCorruptionException error)
        {
            _index.Forget(key, place);
            NoteError(error);
            return false;
        }
        catch (FileCallException error)
        {
            // It may be read another time.
            NoteError(error);
            return false;
        }
    }

    // Counts what was written before something went wrong.
    private int Write(ReadOnlySpan<BlockHash> keys, ReadOnlySpan<byte> blocks, CancellationToken cancel)
    {
        int length = blocks.Length / keys.Length;
        int written = 0;
        lock (_writing)
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            try
            {
                for (int i = 0; i < keys.Length; i++)
                {
                    cancel.ThrowIfCancellationRequested();
                    if (!_index.Touch(keys[i]))
                    {
                        _writer.Write(keys[i], blocks.Slice(i * length, length));
                        written++;
                    }
                }
            }
            catch (FileCallException error)
            {
                NoteError(error);
            }
        }

        return written;
    }

    private void Close()
    {
        _index.Close();
        if (_lock.Files is not null)
        {
            _lock.Dispose();
        }

        _directory.Dispose();
    }
}
