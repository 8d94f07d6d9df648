namespace KvCacheGpu;

/// <summary>The caches of the process that live, as instruments read them. One that nobody disposed goes when it is collected. Any thread.</summary>
internal static class MeasuredCaches
{
    private static readonly Lock s_lock = new();
    private static readonly List<WeakReference<MeasuredCache>> s_caches = [];

    static MeasuredCaches() => CacheInstruments.Make();

    /// <summary>All that live.</summary>
    public static MeasuredCache[] All
    {
        get
        {
            lock (s_lock)
            {
                return [.. s_caches.Select(Target).OfType<MeasuredCache>()];
            }
        }
    }

    public static void Add(MeasuredCache cache)
    {
        lock (s_lock)
        {
            s_caches.RemoveAll(known => Target(known) is null);
            s_caches.Add(new WeakReference<MeasuredCache>(cache));
        }
    }

    public static void Remove(MeasuredCache cache)
    {
        lock (s_lock)
        {
            s_caches.RemoveAll(known => Target(known) is not { } live || live == cache);
        }
    }

    private static MeasuredCache? Target(WeakReference<MeasuredCache> cache) => cache.TryGetTarget(out MeasuredCache? live) ? live : null;
}
