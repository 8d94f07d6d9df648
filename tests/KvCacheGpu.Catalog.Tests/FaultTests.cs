using Xunit.Abstractions;

namespace KvCacheGpu.Catalog.Tests;

/// <summary>A migration that stops at any statement leaves a step done or not begun, and a second run completes it.</summary>
public sealed class FaultTests(ITestOutputHelper output)
{
    [Theory, OnSqlite, OnPostgres]
    public async Task A_migration_killed_at_every_statement_is_completed_by_the_next(string kind)
    {
        int fired = 0;
        foreach ((string from, Func<TestDatabase, Task> make) in new (string, Func<TestDatabase, Task>)[]
        {
            ("nothing", _ => Task.CompletedTask), ("1.x", OldTable.MakeFirstAsync), ("2.0", OldTable.MakeSecondAsync),
        })
        {
            await using TestDatabase database = await TestDatabase.CreateAsync(kind);
            await make(database);
            List<string> before = from == "nothing" ? [] : await database.RowsAsync(OldTable.Rows);
            fired += await KillAtEachAsync(database, isUp: true, before);
        }

        output.WriteLine($"{kind}: killed at {fired} points");
        Assert.InRange(fired, 80, int.MaxValue);
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task A_rollback_killed_at_every_statement_is_completed_by_the_next(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        await OldTable.MakeSecondAsync(database);
        List<string> before = await database.RowsAsync(OldTable.Rows);
        await new CatalogSchema(database.Address, TestDatabase.Provider).MigrateAsync();
        int fired = await KillAtEachAsync(database, isUp: false, before);
        output.WriteLine($"{kind}: killed at {fired} points");
        Assert.InRange(fired, 20, int.MaxValue);
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task A_rebuild_killed_at_every_statement_changes_all_or_nothing(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        CacheCatalog catalog = await database.CatalogAsync();
        CatalogEntry[] old = [.. Enumerable.Range(0, 3).Select(i => new CatalogEntry { Key = $"old{i}", Path = "p", Created = DateTimeOffset.UnixEpoch })];
        CatalogEntry[] fresh = [.. Enumerable.Range(0, 4).Select(i => new CatalogEntry { Key = $"new{i}", Path = "p", Created = DateTimeOffset.UnixEpoch })];
        int fired = 0;
        for (int n = 1; ; n++, fired++)
        {
            await catalog.RebuildAsync("p", CatalogTests.Stream(old));
            CatalogDatabase open = database.Open();
            bool isCommitted = false;
            FailAt(open, n, s => isCommitted |= s == "committed");
            try
            {
                await new CacheCatalog(open).RebuildAsync("p", CatalogTests.Stream(fresh));
                break;
            }
            catch (KilledException)
            {
                IEnumerable<string> keys = (await catalog.ListAsync()).Entries.Select(e => e.Key);
                Assert.Equal((isCommitted ? fresh : old).Select(e => e.Key), keys);
            }
        }

        output.WriteLine($"{kind}: killed at {fired} points");
        Assert.InRange(fired, 10, int.MaxValue);
    }

    // Each kill is followed by a look at the rows, by a whole run, and by the way back to where it began.
    private static async Task<int> KillAtEachAsync(TestDatabase database, bool isUp, List<string> rows)
    {
        CatalogSchema sound = new(database.Address, TestDatabase.Provider);
        int start = (await sound.StatusAsync()).Version;
        for (int n = 1; ; n++)
        {
            CatalogDatabase open = database.Open();
            FailAt(open, n);
            bool isKilled = false;
            try
            {
                await MoveAsync(new CatalogSchema(open), isUp);
            }
            catch (KilledException)
            {
                isKilled = true;
            }

            await CheckAsync(database, sound, rows);
            await MoveAsync(sound, isUp);
            await CheckAsync(database, sound, rows);
            Assert.Equal(isUp ? 3 : 1, (await sound.StatusAsync()).Version);
            if (!isKilled)
            {
                return n - 1;
            }

            if (!isUp)
            {
                await sound.MigrateAsync();
            }
            else if (start > 0)
            {
                await sound.RollbackAsync(start);
            }
            else
            {
                await database.RunAsync("DROP TABLE cache_entries", "DROP TABLE kvcache_schema", "DROP TABLE IF EXISTS cache_metadata");
            }
        }
    }

    private static async Task MoveAsync(CatalogSchema schema, bool isUp) => _ = isUp ? await schema.MigrateAsync() : await schema.RollbackAsync(1);

    private static async Task CheckAsync(TestDatabase database, CatalogSchema schema, List<string> rows)
    {
        Assert.Empty((await schema.StatusAsync()).Differences);
        if (rows.Count > 0)
        {
            Assert.Equal(rows, await database.RowsAsync(OldTable.Rows));
        }
    }

    private static void FailAt(CatalogDatabase open, int n, Action<string>? see = null)
    {
        int count = 0;
        open.Before = statement =>
        {
            see?.Invoke(statement);
            if (++count == n)
            {
                throw new KilledException(statement);
            }
        };
    }

    private sealed class KilledException(string statement) : Exception(statement);
}
