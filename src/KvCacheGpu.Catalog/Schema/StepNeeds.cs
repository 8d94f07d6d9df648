using System.Data.Common;

namespace KvCacheGpu.Catalog;

/// <summary>Checks the rows and rules of a table that a step needs, which columns and indexes do not show.</summary>
internal static class StepNeeds
{
    /// <summary>Refuses rows with equal keys, even before the first step up, because a table aside could not hold them on the way down.</summary>
    public static async Task RequireKeysAsync(CatalogDatabase database, DbConnection connection, SchemaStep step, TableShape shape, CancellationToken cancel)
    {
        string[] kept = [.. step.Parts.Where(part => !step.IsUp && part.IsColumn).Select(part => part.Name)];
        bool isUnique = shape.Indexes.ContainsKey(TableParts.KeyIsUnique);
        if (!isUnique && (kept.Length > 0 || step is { IsUp: true, Version: > SchemaStep.Oldest })
            && await CountAsync($"(SELECT key FROM {TableShape.Entries} WHERE key IS NOT NULL GROUP BY key HAVING count(*) > 1) k").ConfigureAwait(false) is > 0 and long keys)
        {
            throw CatalogException.Invalid("catalog schema", "each key once", $"{keys} keys that several rows have");
        }

        if (kept.Length > 0 && await CountAsync($"{TableShape.Entries} WHERE key IS NULL AND ({SchemaStep.NotNull(kept)})").ConfigureAwait(false) is > 0 and long rows)
        {
            throw CatalogException.Invalid("catalog schema", $"a key in every row that has {string.Join(" or ", kept)}, so that they can be kept aside", $"{rows} rows without");
        }

        async Task<long> CountAsync(string from)
        {
            await using DbCommand command = database.Command(connection, $"SELECT count(*) FROM {from}");
            return (long)(await command.ExecuteScalarAsync(cancel).ConfigureAwait(false))!;
        }
    }

    /// <summary>
    /// Writes two entries, reads them back and deletes them. So constraints, triggers, rights and collations of an old table that refuse or change entries
    /// are found before the step is done, and not when the first snapshot is saved. A number sequence of the table advances by two.
    /// </summary>
    public static async Task TryEntriesAsync(CatalogDatabase database, DbConnection connection, DbTransaction transaction, CancellationToken cancel)
    {
        const string Expected = "a table that takes an entry and gives it back";
        string id = Guid.NewGuid().ToString("n");
        await transaction.SaveAsync("trial", cancel).ConfigureAwait(false);
        try
        {
            // A column of numbers, or one that ignores case, would not keep these texts.
            CatalogEntry[] trials = [.. new[] { $"0{id}a", $"0{id}A" }.Select(key => EntryCheck.Checked(
                new CatalogEntry { Key = key, Session = "007", Tenant = "007", Name = "007", Path = "007", Checksum = "007", Tokens = 1, Metadata = "{}" }, DateTimeOffset.UnixEpoch))];
            foreach (CatalogEntry trial in trials)
            {
                await database.ExecuteAsync(connection, EntryRow.Upsert(database, keep: false), cancel, EntryRow.Values(database, trial)).ConfigureAwait(false);
            }

            foreach (CatalogEntry trial in trials)
            {
                await using DbCommand command = database.Command(connection, $"SELECT {database.Columns} FROM {TableShape.Entries} WHERE key = @key", ("key", trial.Key));
                await using DbDataReader reader = await command.ExecuteReaderAsync(cancel).ConfigureAwait(false);
                CatalogEntry? read = await reader.ReadAsync(cancel).ConfigureAwait(false) ? EntryRow.Read(database, reader) : null;
                if (read != trial || await reader.ReadAsync(cancel).ConfigureAwait(false))
                {
                    throw CatalogException.Invalid("catalog schema", Expected, read is null ? "none" : "another");
                }
            }
        }
        catch (Exception e) when ((e is DbException or InvalidCastException) && !database.IsTransient(e))
        {
            throw CatalogException.Invalid("catalog schema", Expected, database.Describe(e), e);
        }

        await transaction.RollbackAsync("trial", cancel).ConfigureAwait(false);
    }
}
