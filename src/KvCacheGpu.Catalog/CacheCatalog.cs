using System.Data.Common;

namespace KvCacheGpu.Catalog;

/// <summary>Snapshots and sessions, recorded in <c>cache_entries</c> on SQLite or PostgreSQL: what is where, by session, tenant and metadata.</summary>
/// <remarks>
/// The catalog is an index over a store, never the store: snapshots save and load without it, and <see cref="RebuildAsync"/> makes it anew from
/// the store's manifests. Faults that may pass are retried (<see cref="CatalogOptions.Retries"/>); what stays is E008. May be used by many threads.
/// </remarks>
public sealed partial class CacheCatalog
{
    /// <summary>The most entries of one page.</summary>
    public const int MaxPage = 1000;

    private readonly Dialect _dialect;
    private volatile bool _isReady;

    /// <summary>Reads an address; does not connect.</summary>
    /// <param name="address"><c>sqlite:PATH</c>, <c>postgres://user:password@host:port/name</c>, or an address of SQLAlchemy for either.</param>
    /// <param name="options">How patient to be; the default where null.</param>
    /// <exception cref="CatalogException">E003: the address cannot be read.</exception>
    public CacheCatalog(string address, CatalogOptions? options = null)
        : this(CatalogAddress.Parse(address, (options ?? new CatalogOptions()).Check()))
    {
    }

    internal CacheCatalog(Dialect dialect)
    {
        _dialect = dialect;
        Schema = new CatalogSchema(dialect);
    }

    /// <summary>Its schema; <see cref="CatalogSchema.MigrateAsync"/> makes or upgrades the tables that the catalog needs.</summary>
    public CatalogSchema Schema { get; }

    /// <summary>Records an entry, in place of the one with its key. Once it returns, the entry survives a crash of the server.</summary>
    /// <param name="entry">The entry.</param>
    /// <param name="cancel">Gives up.</param>
    /// <exception cref="CatalogException">E003: what one of the databases cannot hold, or a schema that is not the newest. E008: no answer.</exception>
    public Task RecordAsync(CatalogEntry entry, CancellationToken cancel = default)
    {
        CatalogEntry row = EntryCheck.Checked(entry, DateTimeOffset.UtcNow);
        return RunAsync(
            c => _dialect.ExecuteAsync(c, EntryRow.Upsert(_dialect, keep: false), cancel, EntryRow.Values(_dialect, row)), cancel);
    }

    /// <summary>Records an entry where the database answers, and says why not where it does not: for callers whose work goes on without a catalog.</summary>
    /// <param name="entry">The entry.</param>
    /// <param name="cancel">Gives up.</param>
    /// <returns>Null where it is recorded; else what is wrong, E008 where the database is down.</returns>
    public async Task<CatalogException?> TryRecordAsync(CatalogEntry entry, CancellationToken cancel = default)
    {
        try
        {
            await RecordAsync(entry, cancel).ConfigureAwait(false);
            return null;
        }
        catch (CatalogException e)
        {
            return e;
        }
    }

    /// <summary>The entry with a key, or null.</summary>
    /// <param name="key">The key, exactly.</param>
    /// <param name="cancel">Gives up.</param>
    /// <exception cref="CatalogException">As <see cref="RecordAsync"/>.</exception>
    public Task<CatalogEntry?> FindAsync(string key, CancellationToken cancel = default)
    {
        EntryCheck.Key(key);
        return RunAsync(
            async c =>
            {
                await using DbCommand command = _dialect.Command(c, $"SELECT {_dialect.Columns} FROM cache_entries WHERE key = @key", ("key", key));
                await using DbDataReader reader = await command.ExecuteReaderAsync(cancel).ConfigureAwait(false);
                return await reader.ReadAsync(cancel).ConfigureAwait(false) ? EntryRow.Read(_dialect, reader) : null;
            },
            cancel);
    }

    /// <summary>Notes that an entry was used.</summary>
    /// <param name="key">Its key.</param>
    /// <param name="at">When; null is now.</param>
    /// <param name="cancel">Gives up.</param>
    /// <returns>Whether it is there.</returns>
    /// <exception cref="CatalogException">As <see cref="RecordAsync"/>.</exception>
    public async Task<bool> TouchAsync(string key, DateTimeOffset? at = null, CancellationToken cancel = default)
    {
        EntryCheck.Key(key);
        object time = _dialect.Time(EntryCheck.Time(at ?? DateTimeOffset.UtcNow, nameof(at)));
        return await RunAsync(
            c => _dialect.ExecuteAsync(c, "UPDATE cache_entries SET accessed_at = @at WHERE key = @key", cancel, ("at", time), ("key", key)), cancel).ConfigureAwait(false) > 0;
    }

    /// <summary>Deletes an entry.</summary>
    /// <param name="key">Its key.</param>
    /// <param name="cancel">Gives up.</param>
    /// <returns>Whether it was there; false also where an answer was lost and the retry found it gone.</returns>
    /// <exception cref="CatalogException">As <see cref="RecordAsync"/>.</exception>
    public async Task<bool> DeleteAsync(string key, CancellationToken cancel = default)
    {
        EntryCheck.Key(key);
        return await RunAsync(
            c => _dialect.ExecuteAsync(c, "DELETE FROM cache_entries WHERE key = @key", cancel, ("key", key)), cancel).ConfigureAwait(false) > 0;
    }

    private Task<T> RunAsync<T>(Func<DbConnection, Task<T>> work, CancellationToken cancel) => _dialect.RunAsync(
        async connection =>
        {
            if (!_isReady)
            {
                await Schema.RequireAsync(connection, cancel).ConfigureAwait(false);
                _isReady = true;
            }

            return await work(connection).ConfigureAwait(false);
        },
        cancel);
}
