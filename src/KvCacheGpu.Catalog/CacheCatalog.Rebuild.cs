using System.Data.Common;

namespace KvCacheGpu.Catalog;

/// <summary>What a rebuild did.</summary>
/// <param name="Recorded">Snapshots that the store has, now recorded.</param>
/// <param name="Removed">Entries of snapshots that the store no longer has.</param>
public sealed record CatalogRebuild(int Recorded, int Removed);

public sealed partial class CacheCatalog
{
    /// <summary>
    /// Makes the catalog say what a store's manifests say, in one transaction. Entries with a <see cref="CatalogEntry.Path"/> that are not among them
    /// go; entries without one stay; session, metadata and time of last use stay where a manifest does not tell them.
    /// </summary>
    /// <param name="snapshots">Every snapshot of the store, each with a path. They are read whole before the database is touched.</param>
    /// <param name="cancel">Gives up; nothing is changed then.</param>
    /// <exception cref="CatalogException">As <see cref="RecordAsync"/>; nothing is changed then.</exception>
    public async Task<CatalogRebuild> RebuildAsync(IAsyncEnumerable<CatalogEntry> snapshots, CancellationToken cancel = default)
    {
        ArgumentNullException.ThrowIfNull(snapshots);
        Dictionary<string, CatalogEntry> stored = new(StringComparer.Ordinal);
        DateTimeOffset now = DateTimeOffset.UtcNow;
        await foreach (CatalogEntry entry in snapshots.WithCancellation(cancel).ConfigureAwait(false))
        {
            CatalogEntry row = EntryCheck.Checked(entry, now);
            stored[row.Key] = row.Path is null ? throw CatalogException.Invalid("rebuild", "snapshots, each with a path", $"an entry without: {row.Key}") : row;
        }

        return await RunAsync(c => ReplaceAsync(c, stored, cancel), cancel).ConfigureAwait(false);
    }

    private async Task<CatalogRebuild> ReplaceAsync(DbConnection connection, Dictionary<string, CatalogEntry> stored, CancellationToken cancel)
    {
        await using DbTransaction transaction = await _dialect.BeginWriteAsync(connection, cancel).ConfigureAwait(false);
        List<string> gone = [];
        await using (DbCommand command = _dialect.Command(connection, "SELECT key FROM cache_entries WHERE path IS NOT NULL"))
        await using (DbDataReader reader = await command.ExecuteReaderAsync(cancel).ConfigureAwait(false))
        {
            while (await reader.ReadAsync(cancel).ConfigureAwait(false))
            {
                if (!stored.ContainsKey(reader.GetString(0)))
                {
                    gone.Add(reader.GetString(0));
                }
            }
        }

        foreach (string key in gone)
        {
            await _dialect.ExecuteAsync(connection, "DELETE FROM cache_entries WHERE key = @key", cancel, ("key", key)).ConfigureAwait(false);
        }

        string upsert = EntryRow.Upsert(_dialect, keep: true);
        foreach (CatalogEntry entry in stored.Values)
        {
            await _dialect.ExecuteAsync(connection, upsert, cancel, EntryRow.Values(_dialect, entry)).ConfigureAwait(false);
        }

        await _dialect.CommitAsync(transaction, cancel).ConfigureAwait(false);
        return new CatalogRebuild(stored.Count, gone.Count);
    }
}
