using System.Data.Common;

namespace KvCacheGpu.Catalog;

/// <summary>What a rebuild did.</summary>
/// <param name="Recorded">Snapshots that the store has, now recorded.</param>
/// <param name="Removed">The store's entries of snapshots that it no longer has.</param>
public sealed record CatalogRebuild(int Recorded, int Removed);

public sealed partial class CacheCatalog
{
    /// <summary>
    /// Makes the catalog say of a store what its manifests say, in one transaction. Its entries that are not among them go; those of other stores, and
    /// those without a <see cref="CatalogEntry.Path"/>, stay, unless a snapshot has their key; session, metadata and time of last use stay where a
    /// manifest does not tell them.
    /// </summary>
    /// <param name="store">The store: the <see cref="CatalogEntry.Path"/> of its entries, exactly.</param>
    /// <param name="snapshots">Every snapshot of the store, each with that path. They are read whole before the database is touched.</param>
    /// <param name="cancel">Gives up; nothing is changed then.</param>
    /// <exception cref="CatalogException">As <see cref="RecordAsync"/>; nothing is changed then.</exception>
    public async Task<CatalogRebuild> RebuildAsync(string store, IAsyncEnumerable<CatalogEntry> snapshots, CancellationToken cancel = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(store);
        EntryCheck.Text(store, nameof(store), EntryCheck.MaxText);
        ArgumentNullException.ThrowIfNull(snapshots);
        Dictionary<string, CatalogEntry> stored = new(StringComparer.Ordinal);
        DateTimeOffset now = DateTimeOffset.UtcNow;
        await foreach (CatalogEntry entry in snapshots.WithCancellation(cancel).ConfigureAwait(false))
        {
            CatalogEntry row = EntryCheck.Checked(entry, now);
            stored[row.Key] = row.Path == store ? row : throw CatalogException.Invalid("rebuild", $"snapshots of {store}", $"one of {row.Path ?? "no store"}: {row.Key}");
        }

        return await RunAsync(c => ReplaceAsync(c, store, stored, cancel), cancel).ConfigureAwait(false);
    }

    private async Task<CatalogRebuild> ReplaceAsync(DbConnection connection, string store, Dictionary<string, CatalogEntry> stored, CancellationToken cancel)
    {
        await using DbTransaction transaction = await _dialect.BeginWriteAsync(connection, cancel).ConfigureAwait(false);
        List<string> gone = [];
        await using (DbCommand command = _dialect.Command(connection, "SELECT key FROM cache_entries WHERE path = @path", ("path", store)))
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
