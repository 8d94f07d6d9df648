namespace KvCacheGpu;

/// <summary>Keeps a resident prefix from being given up until it is disposed. Pins count; sequences come and go meanwhile.</summary>
public sealed class KvPrefixPin : IDisposable
{
    private readonly KvCache _cache;
    private readonly int[] _rows;
    private int _disposed;

    internal KvPrefixPin(KvCache cache, int[] rows, int tokens) => (_cache, _rows, Tokens) = (cache, rows, tokens);

    /// <summary>Tokens that stay: whole pages.</summary>
    public int Tokens { get; }

    /// <summary>Takes the pin back.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            _cache.Unpin(this, _rows);
        }
    }
}
