using KvCacheGpu.Catalog;

namespace KvCacheGpu.Cli;

/// <summary>Makes the catalog's entry of a snapshot, and records it. Commands only need the store and continue without a catalog.</summary>
internal static class CatalogRecord
{
    /// <summary>Makes the entry of a snapshot.</summary>
    /// <param name="info">The snapshot.</param>
    /// <param name="store">The store's directory.</param>
    /// <param name="session">The session that it belongs to, or null.</param>
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

    /// <summary>Records a snapshot that was just saved. A catalog that is down causes a remark and no error.</summary>
    /// <param name="database">The catalog's address; null for none.</param>
    /// <param name="entry">The snapshot.</param>
    /// <param name="remarks">Receives remarks for the user.</param>
    public static void Add(string? database, CatalogEntry entry, TextWriter remarks)
    {
        if (database is null)
        {
            return;
        }

        CacheCatalog catalog = Catalogs.Open(database);
        if (catalog.TryRecordAsync(entry).GetAwaiter().GetResult() is { } error)
        {
            remarks.WriteLine(Readable.Line($"[saved, but not recorded in the catalog: {error.Message}; kvcache db rebuild records it later]"));
        }
    }
}
