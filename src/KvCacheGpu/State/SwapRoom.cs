namespace KvCacheGpu;

/// <summary>The host memory that sequences which were swapped out of a cache may take. Any thread.</summary>
internal sealed class SwapRoom(long? limit, CacheCounts counts)
{
    private readonly Lock _lock = new();
    private long _bytes;

    /// <summary>Bytes that they take.</summary>
    public long Bytes => Interlocked.Read(ref _bytes);

    /// <exception cref="KvOutOfMemoryException">E001: there is less.</exception>
    public void Take(long bytes)
    {
        lock (_lock)
        {
            if (limit is { } most && _bytes + bytes > most)
            {
                throw counts.Refuse(new KvShortage("swapping out", KvResource.SwapBytes, bytes, most - _bytes));
            }

            _bytes += bytes;
        }
    }

    public void Give(long bytes)
    {
        lock (_lock)
        {
            _bytes -= bytes;
        }
    }
}
