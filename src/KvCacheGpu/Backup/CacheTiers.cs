namespace KvCacheGpu;

/// <summary>The lower tiers of a cache: what is backed up to them, and what is fetched.</summary>
internal sealed class CacheTiers : IDisposable
{
    private readonly CacheState _cache;
    private readonly PrefixPages _prefixes;
    private readonly BlockBackup _backup;
    private readonly BlockFetch _fetch;

    private CacheTiers(CacheState cache, PrefixPages prefixes)
    {
        (_cache, _prefixes) = (cache, prefixes);
        prefixes.Below = new BlocksBelow();
        var content = new BlockContent(cache);
        (_fetch, _backup) = (new BlockFetch(cache, prefixes, content), new BlockBackup(cache, prefixes, content));
    }

    /// <summary>What was fetched and what became of it.</summary>
    public KvFetchCounts Counts
    {
        get
        {
            using (_cache.EnterLive())
            {
                BlocksBelow below = _prefixes.Below!;
                return new KvFetchCounts(below.Fetched, below.Late, below.Used, below.Wasted, _backup.LeftOut);
            }
        }
    }

    /// <summary>The tiers of a new cache; null if it has none.</summary>
    public static CacheTiers? Of(CacheState cache) => cache.Options.Tiers.Count > 0 && cache.Prefixes is { } prefixes ? new CacheTiers(cache, prefixes) : null;

    /// <summary>Fetches what follows the resident part of a prefix, and waits for it.</summary>
    public void Fetch(in BlockHash root, ReadOnlySpan<int> ids, string? tenant)
    {
        if (ids.Length >= _cache.Geometry.PageTokens)
        {
            _fetch.FetchAsync(root, ids.ToArray(), tenant, isLate: true, CancellationToken.None).AsTask().GetAwaiter().GetResult();
        }
    }

    /// <summary>Fetches it ahead of the sequence that will want it.</summary>
    public ValueTask<int> FetchAheadAsync(in BlockHash root, int[] ids, string? tenant, CancellationToken cancel) => _fetch.FetchAsync(root, ids, tenant, isLate: false, cancel);

    /// <inheritdoc cref="BlockBackup.FlushAsync"/>
    public Task FlushAsync(CancellationToken cancel) => _backup.FlushAsync(cancel);

    public void Dispose() => _backup.Dispose();
}
