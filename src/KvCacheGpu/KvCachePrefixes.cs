namespace KvCacheGpu;

/// <summary>The prefixes that a cache keeps for sequences to begin with (<see cref="KvCacheOptions.PrefixReuse"/>, <see cref="KvSequence.Reuse"/>).</summary>
/// <remarks>Thread safety: members may be called from any thread; they throw <see cref="ObjectDisposedException"/> after the cache's disposal.</remarks>
public static class KvCachePrefixes
{
    /// <summary>Takes what was stored and removed since the last call, oldest first; empty without <see cref="KvCacheOptions.PrefixEvents"/>.</summary>
    public static IReadOnlyList<PrefixEvent> TakePrefixEvents(this KvCache cache)
    {
        using (cache.State.EnterLive())
        {
            return cache.State.Prefixes?.Index.TakeEvents() ?? [];
        }
    }

    /// <summary>Forgets every prefix and gives their pages back, as after a change of weights.</summary>
    /// <returns>False, and nothing has changed, if a sequence or pin still holds one.</returns>
    public static bool TryClearPrefixes(this KvCache cache)
    {
        using (cache.State.EnterLive())
        {
            return cache.State.Prefixes?.Index.TryReset() ?? true;
        }
    }

    /// <summary>Keeps the resident part of a prefix from being given up, as for a system prompt that must always be hit.</summary>
    /// <param name="cache">The cache.</param>
    /// <param name="options">The namespace; retention is not looked at.</param>
    /// <param name="ids">Token ids.</param>
    /// <returns>The pin, of 0 tokens if nothing of the prefix is resident. Disposed with the cache at the latest.</returns>
    /// <remarks>
    /// Pinned pages make no room for steps: with too many of them, steps are refused. Pages in T formats are found under <see cref="KvCache.KeyScales"/>: what was pinned before those changed
    /// is not found any longer.
    /// </remarks>
    public static KvPrefixPin PinPrefix(this KvCache cache, KvSequenceOptions options, ReadOnlySpan<int> ids)
    {
        ArgumentNullException.ThrowIfNull(options);
        BlockHash root = cache.State.NamespaceOf(options, cache.KeyScales).ToHash();
        using (cache.State.EnterLive())
        {
            int[] blocks = cache.State.Prefixes?.Pin(root, ids) ?? [];
            cache.State.PinnedBlocks.Add(blocks);
            return new KvPrefixPin(cache.State, blocks, blocks.Length * cache.Geometry.PageTokens);
        }
    }
}
