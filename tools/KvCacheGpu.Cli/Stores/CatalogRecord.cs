using KvCacheGpu.Catalog;

namespace KvCacheGpu.Cli;

/// <summary>Joins the store to the catalog: a snapshot, as the catalog records it. The store is what counts; without a catalog everything goes on.</summary>
internal static class CatalogRecord
{
    /// <summary>What a store says of a snapshot.</summary>
    /// <param name="info">The snapshot.</param>
    /// <param name="store">The store's directory.</param>
    /// <param name="session">The session it is of, or null.</param>
    public static CatalogEntry Of(SnapshotInfo info, string store, string? session = null) => new()
    {
        Key = info.FileName,
        Name = info.Name?.Name,
        Tenant = info.Name?.Tenant,
        Session = session,
        Path = store,
        FormatVersion = info.Version,
        Bytes = info.StoredBytes,
        Tokens = info.Tokens,
        Created = info.Created,
    };

    /// <summary>Records a snapshot that was just saved; a catalog that is down is a remark, not an error.</summary>
    /// <param name="database">The catalog's address; null for none.</param>
    /// <param name="entry">The snapshot.</param>
    /// <param name="remarks">Takes what the user must know.</param>
    public static void Add(string? database, CatalogEntry entry, TextWriter remarks)
    {
        if (database is null)
        {
            return;
        }

        CacheCatalog catalog = new(database);
        if (catalog.TryRecordAsync(entry).GetAwaiter().GetResult() is { } error)
        {
            remarks.WriteLine(Readable.Line($"[saved, but not recorded in the catalog: {error.Message}; kvcache db rebuild records it later]"));
        }
    }
}
