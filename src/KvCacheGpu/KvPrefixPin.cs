namespace KvCacheGpu;

/// <summary>Keeps a resident prefix until it is disposed, whichever sequences come and go. Pins of the same prefix count.</summary>
public sealed class KvPrefixPin : IDisposable
{
    private readonly KvCache _cache;

    internal KvPrefixPin(KvCache cache, int[] blocks, int tokens) => (_cache, Blocks, Tokens) = (cache, blocks, tokens);

    /// <summary>Number of tokens that stay, in whole pages.</summary>
    public int Tokens { get; }

    internal int[] Blocks { get; }

    /// <summary>Takes the pin back.</summary>
    public void Dispose() => _cache.Unpin(this);
}
