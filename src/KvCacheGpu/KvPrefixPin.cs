namespace KvCacheGpu;

/// <summary>Keeps a resident prefix until it is disposed, whichever sequences come and go. Pins of the same prefix count.</summary>
/// <remarks>Thread safety: it may be disposed by any thread, also beside the cache.</remarks>
public sealed class KvPrefixPin : IDisposable
{
    private readonly CacheState _cache;
    private readonly int[] _blocks;

    internal KvPrefixPin(CacheState cache, int[] blocks, int tokens) => (_cache, _blocks, Tokens) = (cache, blocks, tokens);

    /// <summary>Number of tokens that stay, in whole pages.</summary>
    public int Tokens { get; }

    /// <summary>Takes the pin back.</summary>
    public void Dispose()
    {
        using (_cache.Pool.Gate.Enter())
        {
            // Not there: taken back before, or with the cache.
            if (_cache.PinnedBlocks.Remove(_blocks))
            {
                _cache.Prefixes?.Unpin(_blocks);
            }
        }
    }
}
