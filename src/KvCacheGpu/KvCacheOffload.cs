namespace KvCacheGpu;

/// <summary>What a cache keeps in host memory of the pages that its policy lets go (<see cref="KvCacheOptions.Offload"/>).</summary>
/// <remarks>Thread safety: members may be called from any thread; they throw <see cref="ObjectDisposedException"/> after the cache's disposal.</remarks>
public static class KvCacheOffload
{
    /// <summary>Counts the pages in host memory, and tells what attentions did with them; zeros without <see cref="KvCacheOptions.Offload"/>.</summary>
    public static KvOffloadCounts GetOffloadCounts(this KvCache cache)
    {
        ArgumentNullException.ThrowIfNull(cache);
        cache.State.ThrowIfDisposed();
        return cache.State.Offload?.Counts ?? default;
    }
}
