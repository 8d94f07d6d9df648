using System.Data.Common;

namespace KvCacheGpu.Catalog;

/// <summary>Snapshots and sessions, recorded in <c>cache_entries</c> on SQLite, PostgreSQL, or another database that has a <see cref="CatalogProvider"/>. It finds them by session, tenant and metadata.</summary>
/// <remarks>
/// The catalog is an index over a store and never the store itself: snapshots save and load without it, and <see cref="RebuildAsync"/> makes it again
/// from the store's manifests. Temporary faults are retried (<see cref="CatalogOptions.Retries"/>); a fault that stays is E008.
/// Thread safety: many threads may use it.
/// </remarks>
public sealed class CacheCatalog
{
    /// <summary>The most entries of one page.</summary>
    public const int MaxPage = 1000;

    private readonly CatalogDatabase _database;
    private volatile bool _isReady;

    /// <summary>Reads an address, without connecting.</summary>
    /// <param name="address">An address of the provider: <c>sqlite:PATH</c> or <c>postgres://user:password@host:port/name</c>, or SQLAlchemy's for either.</param>
    /// <param name="provider">The kind of database, or kinds: <see cref="CatalogProvider"/>.</param>
    /// <param name="options">The number of retries and the times to wait; the defaults if null.</param>
    /// <exception cref="CatalogException">E003: the address cannot be read.</exception>
    /// <include file="../../docs/api/examples.xml" path="examples/of[@name='CacheCatalog']/*"/>
    public CacheCatalog(string address, CatalogProvider provider, CatalogOptions? options = null)
        : this((provider ?? throw new ArgumentNullException(nameof(provider))).Open(address, options))
    {
    }

    internal CacheCatalog(CatalogDatabase database)
    {
        _database = database;
        Schema = new CatalogSchema(database);
    }

    /// <summary>Its schema; <see cref="CatalogSchema.MigrateAsync"/> makes or upgrades the tables that the catalog needs.</summary>
    public CatalogSchema Schema { get; }

    /// <summary>Records an entry, in place of an entry with the same key. Once it returns, the entry survives a crash of the server.</summary>
    /// <param name="entry">The entry.</param>
    /// <param name="cancel">Cancels the call.</param>
    /// <exception cref="CatalogException">E003: one of the databases cannot hold a value, or the schema is not the newest. E008: the database does not answer.</exception>
    public Task RecordAsync(CatalogEntry entry, CancellationToken cancel = default)
    {
        CatalogEntry row = EntryCheck.Checked(entry, DateTimeOffset.UtcNow);
        return RunAsync(
            c => _database.ExecuteAsync(c, EntryRow.Upsert(_database, keep: false), cancel, EntryRow.Values(_database, row)), cancel);
    }

    /// <summary>Records an entry, or returns the reason why it is not recorded, for callers that can continue without a catalog.</summary>
    /// <param name="entry">The entry.</param>
    /// <param name="cancel">Cancels the call.</param>
    /// <returns>Null if the entry is recorded; otherwise the error, E008 if the database is down.</returns>
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

    /// <summary>Finds the entry with a key; null if there is none.</summary>
    /// <param name="key">The key, which is compared exactly.</param>
    /// <param name="cancel">Cancels the call.</param>
    /// <exception cref="CatalogException">The errors of <see cref="RecordAsync"/>.</exception>
    public Task<CatalogEntry?> FindAsync(string key, CancellationToken cancel = default)
    {
        EntryCheck.Key(key);
        return RunAsync(
            async c =>
            {
                await using DbCommand command = _database.Command(c, $"SELECT {_database.Columns} FROM cache_entries WHERE key = @key", ("key", key));
                await using DbDataReader reader = await command.ExecuteReaderAsync(cancel).ConfigureAwait(false);
                return await reader.ReadAsync(cancel).ConfigureAwait(false) ? EntryRow.Read(_database, reader) : null;
            },
            cancel);
    }

    /// <summary>Records that an entry was used.</summary>
    /// <param name="key">Its key.</param>
    /// <param name="at">Time of the use; null for now.</param>
    /// <param name="cancel">Cancels the call.</param>
    /// <returns>False if there is no such entry.</returns>
    /// <exception cref="CatalogException">The errors of <see cref="RecordAsync"/>.</exception>
    public async Task<bool> TouchAsync(string key, DateTimeOffset? at = null, CancellationToken cancel = default)
    {
        EntryCheck.Key(key);
        object time = _database.Time(EntryCheck.Time(at ?? DateTimeOffset.UtcNow, nameof(at)));
        return await RunAsync(
            c => _database.ExecuteAsync(c, "UPDATE cache_entries SET accessed_at = @at WHERE key = @key", cancel, ("at", time), ("key", key)), cancel).ConfigureAwait(false) > 0;
    }

    /// <summary>Deletes an entry.</summary>
    /// <param name="key">Its key.</param>
    /// <param name="cancel">Cancels the call.</param>
    /// <returns>False if there was no such entry, also if a first answer was lost and the retry found the entry deleted.</returns>
    /// <exception cref="CatalogException">The errors of <see cref="RecordAsync"/>.</exception>
    public async Task<bool> DeleteAsync(string key, CancellationToken cancel = default)
    {
        EntryCheck.Key(key);
        return await RunAsync(
            c => _database.ExecuteAsync(c, "DELETE FROM cache_entries WHERE key = @key", cancel, ("key", key)), cancel).ConfigureAwait(false) > 0;
    }

    /// <summary>Lists a page of the entries that a filter selects, in the order of keys' UTF-8 bytes. Every page costs the same, however far it is from the first.</summary>
    /// <param name="filter">Selects entries; null selects all.</param>
    /// <param name="after"><see cref="CatalogPage.Next"/> of the page before; null for the first page.</param>
    /// <param name="limit">The most entries of the page, 1 to <see cref="MaxPage"/>. The default value is 100.</param>
    /// <param name="cancel">Cancels the call.</param>
    /// <exception cref="CatalogException">The errors of <see cref="RecordAsync"/>.</exception>
    public Task<CatalogPage> ListAsync(CatalogFilter? filter = null, string? after = null, int limit = 100, CancellationToken cancel = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(limit, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(limit, MaxPage);
        EntryCheck.Text(after, nameof(after), EntryCheck.MaxId);
        CatalogFilter which = Checked(filter ?? new CatalogFilter());
        return RunAsync(
            async c =>
            {
                await using DbCommand command = ListCommand(c, which, after, limit);
                await using DbDataReader reader = await command.ExecuteReaderAsync(cancel).ConfigureAwait(false);
                List<CatalogEntry> entries = [];
                while (await reader.ReadAsync(cancel).ConfigureAwait(false))
                {
                    entries.Add(EntryRow.Read(_database, reader));
                }

                return entries.Count <= limit
                    ? new CatalogPage(entries, null)
                    : new CatalogPage(entries[..limit], entries[limit - 1].Key);
            },
            cancel);
    }

    /// <summary>Lists every entry that a filter selects, page after page.</summary>
    /// <param name="filter">Selects entries; null selects all.</param>
    /// <param name="cancel">Cancels the call.</param>
    /// <exception cref="CatalogException">The errors of <see cref="RecordAsync"/>.</exception>
    public async IAsyncEnumerable<CatalogEntry> ListAllAsync(
        CatalogFilter? filter = null, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancel = default)
    {
        string? after = null;
        do
        {
            CatalogPage page = await ListAsync(filter, after, MaxPage, cancel).ConfigureAwait(false);
            foreach (CatalogEntry entry in page.Entries)
            {
                yield return entry;
            }

            after = page.Next;
        }
        while (after is not null);
    }

    /// <summary>
    /// Makes the catalog's entries of a store agree with the store's manifests, in one transaction. Entries of snapshots that the store no longer has are
    /// deleted. Entries of other stores and entries without a <see cref="CatalogEntry.Path"/> stay, unless a snapshot has their key. The time of last use
    /// stays, and so do session and metadata if a manifest does not give them.
    /// </summary>
    /// <param name="store">The store: the exact <see cref="CatalogEntry.Path"/> of its entries.</param>
    /// <param name="snapshots">Every snapshot of the store, each with that path. All are read before the database is changed.</param>
    /// <param name="cancel">Cancels the call; nothing is changed then.</param>
    /// <exception cref="CatalogException">The errors of <see cref="RecordAsync"/>; nothing is changed then.</exception>
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

    /// <summary>The command of a page. It asks for one entry more than the page has, which tells if there is a next page.</summary>
    internal DbCommand ListCommand(DbConnection connection, CatalogFilter filter, string? after, int limit, string prefix = "")
    {
        DbCommand command = _database.Command(connection, string.Empty);
        List<string> where = ["key IS NOT NULL"];
        Equal("session_id", filter.Session);
        Equal("tenant", filter.Tenant);
        if (filter.Metadata is not null)
        {
            where.Add(_database.Contains(command, filter.Metadata, isFew: filter.Session is not null));
        }

        if (after is not null)
        {
            where.Add($"{_database.KeyOrder} > @after");
            CatalogDatabase.Add(command, "after", after);
        }

#pragma warning disable CA2100 // Columns and conditions are text of this assembly, and values are parameters.
        command.CommandText =
            $"{prefix}SELECT {_database.Columns} FROM cache_entries WHERE {string.Join(" AND ", where)} ORDER BY {_database.KeyOrder} LIMIT {limit + 1}";
#pragma warning restore CA2100
        return command;

        void Equal(string column, string? value)
        {
            if (value is not null)
            {
                where.Add($"{column} = @{column}");
                CatalogDatabase.Add(command, column, value);
            }
        }
    }

    private static CatalogFilter Checked(CatalogFilter filter)
    {
        EntryCheck.Text(filter.Session, nameof(filter.Session), EntryCheck.MaxId);
        EntryCheck.Text(filter.Tenant, nameof(filter.Tenant), EntryCheck.MaxId);
        return filter with { Metadata = filter.Metadata is null ? null : Json.Canonical(filter.Metadata) };
    }

    private async Task<CatalogRebuild> ReplaceAsync(DbConnection connection, string store, Dictionary<string, CatalogEntry> stored, CancellationToken cancel)
    {
        await using DbTransaction transaction = await _database.BeginWriteAsync(connection, cancel).ConfigureAwait(false);
        List<string> gone = [];
        await using (DbCommand command = _database.Command(connection, "SELECT key FROM cache_entries WHERE path = @path", ("path", store)))
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
            await _database.ExecuteAsync(connection, "DELETE FROM cache_entries WHERE key = @key", cancel, ("key", key)).ConfigureAwait(false);
        }

        string upsert = EntryRow.Upsert(_database, keep: true);
        foreach (CatalogEntry entry in stored.Values)
        {
            await _database.ExecuteAsync(connection, upsert, cancel, EntryRow.Values(_database, entry)).ConfigureAwait(false);
        }

        await _database.CommitAsync(transaction, cancel).ConfigureAwait(false);
        return new CatalogRebuild(stored.Count, gone.Count);
    }

    private Task<T> RunAsync<T>(Func<DbConnection, Task<T>> work, CancellationToken cancel) => _database.RunAsync(
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

/// <summary>The result of a rebuild.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Recorded">Number of snapshots that the store has, which are recorded now.</param>
/// <param name="Removed">Number of deleted entries, whose snapshots the store no longer has.</param>
public sealed record CatalogRebuild(int Recorded, int Removed);
