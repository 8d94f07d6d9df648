using System.Data.Common;

namespace KvCacheGpu.Catalog;

public sealed partial class CacheCatalog
{
    /// <summary>A page of the entries that a filter lets through, in the order of keys' UTF-8 bytes; each page costs the same, however far in.</summary>
    /// <param name="filter">Which; null is all.</param>
    /// <param name="after">The page before's <see cref="CatalogPage.Next"/>; null begins.</param>
    /// <param name="limit">The most entries of the page, 1 to <see cref="MaxPage"/>. The default value is 100.</param>
    /// <param name="cancel">Gives up.</param>
    /// <exception cref="CatalogException">As <see cref="RecordAsync"/>.</exception>
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
                    entries.Add(EntryRow.Read(_dialect, reader));
                }

                return entries.Count <= limit
                    ? new CatalogPage(entries, null)
                    : new CatalogPage(entries[..limit], entries[limit - 1].Key);
            },
            cancel);
    }

    /// <summary>Every entry that a filter lets through, page after page.</summary>
    /// <param name="filter">Which; null is all.</param>
    /// <param name="cancel">Gives up.</param>
    /// <exception cref="CatalogException">As <see cref="RecordAsync"/>.</exception>
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

    /// <summary>The command of a page, one entry more than asked for: whether there is a next page.</summary>
    internal DbCommand ListCommand(DbConnection connection, CatalogFilter filter, string? after, int limit, string prefix = "")
    {
        DbCommand command = _dialect.Command(connection, string.Empty);
        List<string> where = ["key IS NOT NULL"];
        Equal("session_id", filter.Session);
        Equal("tenant", filter.Tenant);
        if (filter.Metadata is not null)
        {
            where.Add(_dialect.Contains(command, filter.Metadata, isFew: filter.Session is not null));
        }

        if (after is not null)
        {
            where.Add($"{_dialect.KeyOrder} > @after");
            Dialect.Add(command, "after", after);
        }

#pragma warning disable CA2100 // Columns and conditions are this assembly's; values are parameters.
        command.CommandText =
            $"{prefix}SELECT {_dialect.Columns} FROM cache_entries WHERE {string.Join(" AND ", where)} ORDER BY {_dialect.KeyOrder} LIMIT {limit + 1}";
#pragma warning restore CA2100
        return command;

        void Equal(string column, string? value)
        {
            if (value is not null)
            {
                where.Add($"{column} = @{column}");
                Dialect.Add(command, column, value);
            }
        }
    }

    private static CatalogFilter Checked(CatalogFilter filter)
    {
        EntryCheck.Text(filter.Session, nameof(filter.Session), EntryCheck.MaxId);
        EntryCheck.Text(filter.Tenant, nameof(filter.Tenant), EntryCheck.MaxId);
        return filter with { Metadata = filter.Metadata is null ? null : Json.Canonical(filter.Metadata) };
    }
}
