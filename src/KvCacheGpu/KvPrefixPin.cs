namespace KvCacheGpu;

/// <summary>Keeps a resident prefix from being given up until it is disposed. Pins count; sequences come and go meanwhile.</summary>
public sealed class KvPrefixPin : IDisposable
{
    private readonly KvCache _cache;

    internal KvPrefixPin(KvCache cache, int[] rows, int tokens) => (_cache, Rows, Tokens) = (cache, rows, tokens);

    /// <summary>Tokens that stay: whole pages.</summary>
    public int Tokens { get; }

    internal int[] Rows { get; }

    /// <summary>Takes the pin back.</summary>
    public void Dispose() => _cache.Unpin(this);
}
