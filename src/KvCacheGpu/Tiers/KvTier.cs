using System.Diagnostics;

namespace KvCacheGpu;

/// <summary>
/// A place below a cache's device memory that keeps blocks of prefixes by their keys: host memory, a disk, a server. It knows bytes and hashes only. It is a
/// cache itself: it may lose any block at any time, and whatever goes wrong in it is a miss.
/// </summary>
/// <remarks>
/// A block is the same P tokens over all layers and heads, bit for bit as its pages lie on the device. All blocks of one cache have the same length; a key names
/// one of that length and no other.
/// Thread safety: members may be called from any thread. One tier may serve several caches; whoever made it disposes it after them.
/// </remarks>
public abstract class KvTier
{
    private readonly Lock _lock = new();
    private KvTierCounts _counts;
    private double _secondsPerByte;

    /// <summary>What reports call it: "host", "disk", "redis".</summary>
    public abstract string Name { get; }

    /// <summary>Bytes of blocks that it holds, or null where it cannot tell.</summary>
    public abstract long? BytesInUse { get; }

    /// <summary>Bytes of blocks that it may hold, or null where something else limits them.</summary>
    public abstract long? BytesLimit { get; }

    /// <summary>False while it is left alone because it failed: calls are misses at once. The default implementation returns true.</summary>
    public virtual bool IsAvailable => true;

    /// <summary>What was asked of it so far.</summary>
    public KvTierCounts Counts
    {
        get
        {
            lock (_lock)
            {
                return _counts;
            }
        }
    }

    /// <summary>Seconds that a byte took lately, from the call to the bytes; 0 before the first block was read.</summary>
    public double SecondsPerByte
    {
        get
        {
            lock (_lock)
            {
                return _secondsPerByte;
            }
        }
    }

    /// <summary>Reads the first blocks of a run, up to the first that is not there. What goes wrong is a miss, and counted.</summary>
    /// <param name="keys">Keys of the blocks, the first of the prefix first.</param>
    /// <param name="blocks">Receives the blocks, one behind the other: room for as many as there are keys, of the same length each. What follows those that were read has no meaning.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>How many were read.</returns>
    /// <exception cref="ArgumentException">No key, or room that does not divide by the keys.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public async ValueTask<int> ReadAsync(ReadOnlyMemory<BlockHash> keys, Memory<byte> blocks, CancellationToken cancellationToken = default)
    {
        int length = LengthOf(keys.Length, blocks.Length);
        long began = Stopwatch.GetTimestamp();
        int read = 0;
        Exception? failure = null;
        try
        {
            read = await ReadBlocksAsync(keys, blocks, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e) when (!(e is OperationCanceledException && cancellationToken.IsCancellationRequested))
        {
            failure = e;
        }

        NoteRead(keys.Length, read, (long)read * length, Stopwatch.GetElapsedTime(began), failure);
        return read;
    }

    /// <summary>Keeps blocks. What goes wrong leaves them out, and is counted.</summary>
    /// <param name="keys">Keys of the blocks.</param>
    /// <param name="blocks">The blocks, one behind the other, of the same length each. They are the caller's again once the call has ended.</param>
    /// <param name="cancellationToken">Ends the wait; blocks may be kept or not.</param>
    /// <returns>How many it has now that it had not before.</returns>
    /// <exception cref="ArgumentException">No key, or bytes that do not divide by the keys.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public async ValueTask<int> WriteAsync(ReadOnlyMemory<BlockHash> keys, ReadOnlyMemory<byte> blocks, CancellationToken cancellationToken = default)
    {
        int length = LengthOf(keys.Length, blocks.Length);
        int written = 0;
        Exception? failure = null;
        try
        {
            written = await WriteBlocksAsync(keys, blocks, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e) when (!(e is OperationCanceledException && cancellationToken.IsCancellationRequested))
        {
            failure = e;
        }

        lock (_lock)
        {
            _counts = _counts with { Written = _counts.Written + written, BytesWritten = _counts.BytesWritten + ((long)written * length) };
            NoteFailure(failure);
        }

        Tell(failure);
        return written;
    }

    /// <summary>Reads blocks for <see cref="ReadAsync"/>: it may throw what it likes.</summary>
    /// <param name="keys">At least one key.</param>
    /// <param name="blocks">Receives the blocks.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>How many of the first were read, whole.</returns>
    protected abstract ValueTask<int> ReadBlocksAsync(ReadOnlyMemory<BlockHash> keys, Memory<byte> blocks, CancellationToken cancellationToken);

    /// <summary>Keeps blocks for <see cref="WriteAsync"/>: it may throw what it likes.</summary>
    /// <param name="keys">At least one key.</param>
    /// <param name="blocks">The blocks.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>How many it has now that it had not before.</returns>
    protected abstract ValueTask<int> WriteBlocksAsync(ReadOnlyMemory<BlockHash> keys, ReadOnlyMemory<byte> blocks, CancellationToken cancellationToken);

    /// <summary>Notes something that went wrong and that no call can tell, as what was found broken while a folder was opened.</summary>
    protected internal void NoteError(Exception failure)
    {
        ArgumentNullException.ThrowIfNull(failure);
        lock (_lock)
        {
            NoteFailure(failure);
        }

        Tell(failure);
    }

    private static int LengthOf(int keys, int bytes) =>
        keys > 0 && bytes % keys == 0
            ? bytes / keys
            : throw new ArgumentException($"expected blocks of one length for at least one key, got {bytes} bytes for {keys}");

    private void NoteRead(int asked, int read, long bytes, TimeSpan time, Exception? failure)
    {
        lock (_lock)
        {
            _counts = _counts with { Read = _counts.Read + read, Missed = _counts.Missed + (asked - read), BytesRead = _counts.BytesRead + bytes };
            if (bytes > 0)
            {
                double now = time.TotalSeconds / bytes;
                _secondsPerByte = _secondsPerByte == 0 ? now : _secondsPerByte + ((now - _secondsPerByte) / 8);
            }

            NoteFailure(failure);
        }

        Tell(failure);
    }

    // Outside of the lock.
    private void Tell(Exception? failure)
    {
        if (failure is not null)
        {
            CacheEvents.Log.NoteTierFailure(Name, failure);
        }
    }

    private void NoteFailure(Exception? failure)
    {
        if (failure is not null)
        {
            _counts = _counts with { Errors = _counts.Errors + 1, LastError = failure.Message };
        }
    }
}
