namespace KvCacheGpu;

/// <summary>What a cache keeps in the tiers below its device (<see cref="KvCacheOptions.Tiers"/>), and fetches from there.</summary>
/// <remarks>Thread safety: members may be called from any thread; they throw <see cref="ObjectDisposedException"/> after the cache's disposal.</remarks>
public static class KvCacheTiers
{
    /// <summary>
    /// Fetches the blocks of a prompt from lower tiers, so that <see cref="KvSequence.Reuse"/> finds them resident: for a host that knows a request before there is room for its step.
    /// They stay until their slots are needed.
    /// </summary>
    /// <param name="cache">The cache.</param>
    /// <param name="options">Whose the prompt is: the namespace of its prefixes.</param>
    /// <param name="ids">Token ids of the prompt; whole pages of them are fetched.</param>
    /// <param name="cancellationToken">Ends the wait; what has come stays.</param>
    /// <returns>Tokens of the prefix that are resident now, in whole pages; 0 without tiers.</returns>
    public static ValueTask<int> PrefetchAsync(this KvCache cache, KvSequenceOptions options, ReadOnlyMemory<int> ids, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(cache);
        ArgumentNullException.ThrowIfNull(options);
        cache.State.ThrowIfDisposed();
        int unknown = ids.Span.IndexOfAnyInRange(int.MinValue, -1);
        int[] known = ids[..(unknown < 0 ? ids.Length : unknown)].ToArray();
        return cache.Tiers is { } tiers
            ? tiers.FetchAheadAsync(cache.State.NamespaceOf(options, cache.KeyScales).ToHash(), known, options.Tenant, cancellationToken)
            : ValueTask.FromResult(0);
    }

    /// <summary>Waits until the blocks that wait to be backed up were written to every tier, or left out. Call it before the process ends.</summary>
    /// <param name="cache">The cache.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    public static Task BackUpAsync(this KvCache cache, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(cache);
        cache.State.ThrowIfDisposed();
        cache.State.Unsettled.SettleDone();
        return cache.Tiers?.FlushAsync(cancellationToken) ?? Task.CompletedTask;
    }

    /// <summary>Counts the blocks that were fetched, and tells what became of them. The tiers count for themselves (<see cref="KvTier.Counts"/>).</summary>
    public static KvFetchCounts GetFetchCounts(this KvCache cache)
    {
        ArgumentNullException.ThrowIfNull(cache);
        cache.State.ThrowIfDisposed();
        return cache.Tiers?.Counts ?? default;
    }
}
