namespace KvCacheGpu.Catalog.Tests;

/// <summary>Steps up and down, from nothing and from the tables of old versions.</summary>
public sealed class MigrationTests
{
    [Theory, OnSqlite, OnPostgres]
    public async Task An_empty_database_goes_up_down_and_up_again(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        CatalogSchema schema = new(database.Address, TestDatabase.Provider);
        Assert.Equal((0, false), Head(await schema.StatusAsync()));
        Assert.Equal([1, 2, 3], (await schema.PlanAsync()).Select(s => s.Version));
        Assert.Equal([1, 2, 3], (await schema.MigrateAsync()).Select(s => s.Version));
        Assert.Equal((3, true), Head(await schema.StatusAsync()));
        Assert.Empty(await schema.MigrateAsync());

        Assert.Equal([3, 2], (await schema.PlanAsync(1)).Select(s => s.Version));
        Assert.Equal([3], (await schema.RollbackAsync()).Select(s => s.Version));
        Assert.Equal([2], (await schema.RollbackAsync(1)).Select(s => s.Version));
        Assert.Equal((1, true), Head(await schema.StatusAsync()));
        Assert.Equal("E003", (await Assert.ThrowsAsync<CatalogException>(() => schema.RollbackAsync())).Code);
        Assert.Equal([2, 3], (await schema.MigrateAsync()).Select(s => s.Version));
        Assert.Empty((await schema.StatusAsync()).Differences);
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task Rows_of_1x_come_through_every_version_intact(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        await OldTable.MakeFirstAsync(database);
        List<string> before = await database.RowsAsync(OldTable.Rows);
        CatalogSchema schema = new(database.Address, TestDatabase.Provider);
        Assert.Equal((1, false), Head(await schema.StatusAsync()));
        await schema.MigrateAsync();
        Assert.Equal(before, await database.RowsAsync(OldTable.Rows));

        CacheCatalog catalog = new(database.Address, TestDatabase.Provider);
        CatalogEntry first = (await catalog.FindAsync("first"))!;
        Assert.Equal(new DateTimeOffset(2024, 1, 2, 3, 4, 5, TimeSpan.Zero).AddMicroseconds(678901), first.Created);
        Assert.Null((await catalog.FindAsync("zweite'; é"))!.Created);
        await catalog.RecordAsync(new CatalogEntry { Key = "fourth" });
        await catalog.DeleteAsync("fourth");

        await schema.RollbackAsync(1);
        Assert.Equal(before, await database.RowsAsync(OldTable.Rows));
        Assert.Equal((1, true), Head(await schema.StatusAsync()));
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task What_goes_down_comes_back_up(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        await OldTable.MakeSecondAsync(database);
        List<string> before = await database.RowsAsync(OldTable.SecondRows);
        CatalogSchema schema = new(database.Address, TestDatabase.Provider);
        Assert.Equal((2, false), Head(await schema.StatusAsync()));
        await schema.MigrateAsync();
        CacheCatalog catalog = new(database.Address, TestDatabase.Provider);
        Assert.Equal(["first"], await KeysAsync(catalog, new CatalogFilter { Metadata = """{"model":"llama","n":1}""" }));
        Assert.Equal(["first", "third"], await KeysAsync(catalog, new CatalogFilter { Session = "s-1" }));
        CatalogEntry ours = new() { Key = "ours", Tenant = "t", Path = "/p", Tokens = 9, Created = DateTimeOffset.UnixEpoch, Accessed = DateTimeOffset.UnixEpoch };
        await catalog.RecordAsync(ours);

        await schema.RollbackAsync();
        Assert.Equal([.. before, "ours||-|-|-"], await database.RowsAsync(OldTable.SecondRows + " NULLS LAST"));
        await schema.RollbackAsync();
        Assert.Equal((1, true), Head(await schema.StatusAsync()));
        await schema.MigrateAsync();
        Assert.Equal([.. before, "ours||-|-|-"], await database.RowsAsync(OldTable.SecondRows + " NULLS LAST"));
        Assert.Equal(ours, await catalog.FindAsync("ours"));
        Assert.Equal(["first"], await KeysAsync(catalog, new CatalogFilter { Metadata = """{"model":"llama"}""" }));
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task A_dry_run_prints_what_would_run_and_changes_nothing(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        await OldTable.MakeFirstAsync(database);
        CatalogSchema schema = new(database.Address, TestDatabase.Provider);
        IReadOnlyList<SchemaStep> plan = await schema.PlanAsync();
        Assert.Equal([2, 3], plan.Select(s => s.Version));
        Assert.Contains(schema.Script(plan[0]), s => s.Contains("session_id VARCHAR(255)", StringComparison.Ordinal));
        Assert.Equal((1, false), Head(await schema.StatusAsync()));
        Assert.All(await schema.PlanAsync(1), s => Assert.NotNull(s.Note));
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task A_newer_schema_is_refused_untouched(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        CacheCatalog catalog = await database.CatalogAsync();
        await database.RunAsync("INSERT INTO kvcache_schema (version, checksum) VALUES (4, 'x')");
        foreach (Func<Task> act in new Func<Task>[]
        {
            () => catalog.Schema.StatusAsync(), () => catalog.Schema.MigrateAsync(), () => catalog.Schema.RollbackAsync(2), () => new CacheCatalog(database.Address, TestDatabase.Provider).FindAsync("k"),
        })
        {
            Assert.Equal("E007", (await Assert.ThrowsAsync<CatalogException>(act)).Code);
        }

        Assert.Equal(["1", "2", "3", "4"], await database.RowsAsync("SELECT version FROM kvcache_schema ORDER BY version"));
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task A_schema_altered_by_hand_is_refused_with_what_differs(string kind)
    {
        foreach ((string alter, string says) in new[]
        {
            ("DROP INDEX idx_session_id", "index idx_session_id is missing"),
            ("ALTER TABLE cache_entries RENAME COLUMN tokens TO tokens_old", "column tokens is missing"),
            ("UPDATE kvcache_schema SET checksum = 'deadbeef' WHERE version = 2", "step 2 is recorded with checksum deadbeef, not "),
            ("DELETE FROM kvcache_schema WHERE version = 1", "step 1 is not recorded, a later one is"),
            ("DROP TABLE cache_entries", "column key is missing"),
            (kind == "sqlite" ? "DROP TRIGGER cache_metadata_delete" : "DROP INDEX idx_cache_metadata", $"{(kind == "sqlite" ? "trigger cache_metadata_delete" : "index idx_cache_metadata")} is missing"),
        })
        {
            await using TestDatabase database = await TestDatabase.CreateAsync(kind);
            CacheCatalog catalog = await database.CatalogAsync();
            await database.RunAsync(alter);
            Assert.Contains((await catalog.Schema.StatusAsync()).Differences, d => d.StartsWith(says, StringComparison.Ordinal));
            foreach (Func<Task> act in new Func<Task>[] { () => catalog.Schema.MigrateAsync(), () => catalog.Schema.RollbackAsync(1), () => new CacheCatalog(database.Address, TestDatabase.Provider).FindAsync("k") })
            {
                CatalogException refused = await Assert.ThrowsAsync<CatalogException>(act);
                Assert.Equal("E003", refused.Code);
                Assert.Contains(says, refused.Actual, StringComparison.Ordinal);
            }
        }
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task Migrators_at_once_do_each_step_once(string kind)
    {
        for (int round = 0; round < 5; round++)
        {
            await using TestDatabase database = await TestDatabase.CreateAsync(kind);
            await OldTable.MakeFirstAsync(database);
            List<string> before = await database.RowsAsync(OldTable.Rows);
            IReadOnlyList<SchemaStep>[] done = await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => Task.Run(() => new CatalogSchema(database.Address, TestDatabase.Provider).MigrateAsync())));
            Assert.Equal([2, 3], done.SelectMany(s => s).Select(s => s.Version).Order());
            Assert.Equal(before, await database.RowsAsync(OldTable.Rows));
            Assert.Empty((await new CatalogSchema(database.Address, TestDatabase.Provider).StatusAsync()).Differences);
        }
    }

    private static (int Version, bool IsRecorded) Head(SchemaStatus status)
    {
        Assert.Empty(status.Differences);
        return (status.Version, status.IsRecorded);
    }

    private static async Task<IEnumerable<string>> KeysAsync(CacheCatalog catalog, CatalogFilter filter) => (await catalog.ListAsync(filter)).Entries.Select(e => e.Key);
}
