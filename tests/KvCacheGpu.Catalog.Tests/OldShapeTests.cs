using Xunit.Abstractions;

namespace KvCacheGpu.Catalog.Tests;

/// <summary>Tables as people really have them: any that can hold entries goes up, works, and comes down to what it was.</summary>
public sealed class OldShapeTests(ITestOutputHelper output)
{
    private static readonly CatalogEntry Ours = new()
    {
        Key = new string('é', 255),
        Session = "s",
        Tenant = "t",
        Name = new string('n', 16_384),
        Path = "/p",
        Tokens = 7,
        Metadata = """{"a":1}""",
        Created = DateTimeOffset.UnixEpoch,
        Accessed = DateTimeOffset.UnixEpoch,
    };

    // Declarations that a table's key may have.
    private static readonly string[] Keys =
    [
        "key VARCHAR(255) PRIMARY KEY", "key TEXT PRIMARY KEY", "{serial}, key VARCHAR(255) UNIQUE NOT NULL", "key VARCHAR(300) NOT NULL", "tag INTEGER DEFAULT 0, key TEXT, PRIMARY KEY (tag, key)",
    ];

    // Further shapes that go up: a table, and the changes that were made to it.
    private static readonly string[][] Further =
    [
        ["CREATE TABLE cache_entries (key TEXT PRIMARY KEY)"],
        ["CREATE TABLE cache_entries (key VARCHAR PRIMARY KEY, value {bytes} NOT NULL)"],
        ["CREATE TABLE cache_entries (key TEXT PRIMARY KEY, accessed_at TIMESTAMP, created_at TIMESTAMP NOT NULL, value {bytes})"],
        ["CREATE TABLE cache_entries (key TEXT, value {bytes}, created_at TIMESTAMP, accessed_at TIMESTAMP)", "CREATE UNIQUE INDEX mine ON cache_entries (key)"],
        ["CREATE TABLE cache_entries (key TEXT, value {bytes}, created_at TIMESTAMP, accessed_at TIMESTAMP)", "CREATE UNIQUE INDEX mine ON cache_entries (key) WHERE value IS NOT NULL"],
        ["CREATE TABLE cache_entries (key TEXT PRIMARY KEY, value {bytes}, hits INTEGER NOT NULL DEFAULT 0, ttl REAL)"],
        ["CREATE TABLE cache_entries (key TEXT PRIMARY KEY, name TEXT, tokens BIGINT, path TEXT DEFAULT 'x', value {bytes})"],
        ["CREATE TABLE cache_entries (key TEXT PRIMARY KEY, session_id TEXT, metadata {json})", "CREATE INDEX idx_session_id ON cache_entries (session_id) WHERE session_id IS NOT NULL"],
        ["CREATE TABLE cache_entries (key TEXT PRIMARY KEY, session_id VARCHAR(255), metadata {json})", "CREATE INDEX idx_session_id ON cache_entries (session_id, key)"],
        ["CREATE TABLE cache_entries (key TEXT PRIMARY KEY, value {bytes}, session_id TEXT)", "CREATE INDEX other ON cache_entries (session_id)"],
        ["CREATE TABLE cache_entries (key TEXT PRIMARY KEY CHECK (length(key) > 0), value {bytes} DEFAULT NULL)"],
        ["CREATE TABLE cache_entries (key TEXT NOT NULL UNIQUE, owner INTEGER REFERENCES owners (id))", "CREATE TABLE other_entries (key TEXT)"],
    ];

    // Shapes that cannot hold entries, and their errors.
    private static readonly (string[] Make, string Says)[] Refused =
    [
        (["CREATE TABLE cache_entries (cache_key TEXT PRIMARY KEY, value {bytes})"], "column key is missing"),
        (["CREATE TABLE cache_entries (key INTEGER PRIMARY KEY, value {bytes})"], "column key is integer, not "),
        (["CREATE TABLE cache_entries (key TEXT PRIMARY KEY, owner INTEGER NOT NULL)"], "owner"),
        (["CREATE TABLE cache_entries (key TEXT PRIMARY KEY, tenant TEXT CHECK (tenant = 'me'))"], "check"),
        (["CREATE TABLE cache_entries (key TEXT, value {bytes})", "INSERT INTO cache_entries (key) VALUES ('a'), ('a'), ('b')"], "each key once, got 1 keys"),
        (["CREATE TABLE cache_entries (key TEXT PRIMARY KEY, session_id TEXT)", "CREATE UNIQUE INDEX idx_session_id ON cache_entries (session_id)"], "index idx_session_id is on unique "),
        (["CREATE TABLE cache_entries (key TEXT PRIMARY KEY)", "CREATE INDEX idx_cache_tenant ON cache_entries (key)"], "index idx_cache_tenant is on "),
    ];

    [Theory, OnSqlite, OnPostgres]
    public async Task Any_table_that_can_hold_entries_goes_up_and_comes_down_to_what_it_was(string kind)
    {
        int shapes = 0;
        foreach (string[] make in Halves(kind == "sqlite").Concat(Further))
        {
            await using TestDatabase database = await TestDatabase.CreateAsync(kind);
            await MakeAsync(database, make);
            List<string> before = await LookAsync(database);
            try
            {
                await UpAndDownAsync(database);
            }
            catch (CatalogException e)
            {
                Assert.Fail($"{string.Join("; ", make)}: {e.Message}");
            }

            Assert.Equal(before, await LookAsync(database));
            shapes++;
        }

        output.WriteLine($"{kind}: {shapes} shapes");
        Assert.InRange(shapes, 40, int.MaxValue);
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task A_table_that_cannot_hold_entries_is_refused_in_one_line_and_stays_as_it_is(string kind)
    {
        foreach ((string[] make, string says) in Refused)
        {
            await using TestDatabase database = await TestDatabase.CreateAsync(kind);
            await MakeAsync(database, make);
            List<string> before = await LookAsync(database);
            CatalogException refused = await Assert.ThrowsAsync<CatalogException>(() => new CatalogSchema(database.Address, TestDatabase.Provider).MigrateAsync());
            Assert.Equal("E003", refused.Code);
            Assert.Contains(says, refused.Message, StringComparison.OrdinalIgnoreCase);
            Assert.DoesNotContain('\n', refused.Message);
            if (await new CatalogSchema(database.Address, TestDatabase.Provider).StatusAsync() is { Version: 2, Differences: [] })
            {
                // Step 2 is done and stays; it comes down as ever.
                await new CatalogSchema(database.Address, TestDatabase.Provider).RollbackAsync(1);
            }

            Assert.Equal(before, await LookAsync(database));
        }
    }

    [Theory, OnPostgres]
    public async Task Texts_too_narrow_are_widened_and_stay_wide(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        await MakeAsync(database, ["CREATE TABLE cache_entries (key VARCHAR(64) PRIMARY KEY, session_id VARCHAR(10), name VARCHAR(80))"]);
        await UpAndDownAsync(database);
        Assert.Equal(
            ["key character varying(255)", "name text", "session_id character varying(255)"],
            await database.RowsAsync("SELECT attname || ' ' || format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'cache_entries'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY 1"));
    }

    [Theory, OnPostgres]
    public async Task Types_that_entries_do_not_fit_are_named(string kind)
    {
        foreach ((string column, string says) in new[]
        {
            ("metadata JSON", "column metadata is json, not jsonb"), ("value TEXT", "column value is text, not bytea"), ("created_at DOUBLE PRECISION", "column created_at is double precision, not a timestamp"),
            ("session_id UUID", "column session_id is uuid, not text"), ("bytes INTEGER", "column bytes is integer, not bigint"), ("layers TEXT", "column layers is text, not integer"),
        })
        {
            await using TestDatabase database = await TestDatabase.CreateAsync(kind);
            await MakeAsync(database, [$"CREATE TABLE cache_entries (key TEXT PRIMARY KEY, {column})"]);
            Assert.Contains((await new CatalogSchema(database.Address, TestDatabase.Provider).StatusAsync()).Differences, d => d.StartsWith(says, StringComparison.Ordinal));
            Assert.Equal("E003", (await Assert.ThrowsAsync<CatalogException>(() => new CatalogSchema(database.Address, TestDatabase.Provider).MigrateAsync())).Code);
        }
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task Keys_of_any_length_that_went_up_come_down_and_up_again(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        await MakeAsync(database, ["CREATE TABLE cache_entries (key TEXT PRIMARY KEY, value {bytes}, session_id TEXT)"]);
        await database.RunAsync($"INSERT INTO cache_entries (key, session_id) VALUES ('{new string('k', 2000)}', 's')");
        CatalogSchema schema = new(database.Address, TestDatabase.Provider);
        await schema.MigrateAsync();
        await database.RunAsync("UPDATE cache_entries SET tenant = 't', metadata = '{}' WHERE length(key) = 2000");
        await schema.RollbackAsync(1);
        Assert.Equal(["2000|s"], await database.RowsAsync("SELECT length(key), session_id FROM cache_entries WHERE length(key) > 255"));
        await schema.MigrateAsync();
        Assert.Equal(["2000|s|t|{}"], await database.RowsAsync("SELECT length(key), session_id, tenant, metadata FROM cache_entries WHERE length(key) > 255"));
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task What_a_script_added_while_it_was_down_keeps_its_values(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        CacheCatalog catalog = await database.CatalogAsync();
        await catalog.RecordAsync(new CatalogEntry { Key = "a", Session = "old" });
        await catalog.RecordAsync(new CatalogEntry { Key = "b", Session = "old" });
        await catalog.Schema.RollbackAsync(1);
        await database.RunAsync("ALTER TABLE cache_entries ADD COLUMN session_id VARCHAR(255)", "UPDATE cache_entries SET session_id = 'new' WHERE key = 'a'");
        await catalog.Schema.MigrateAsync();
        Assert.Equal(["a|new", "b|old"], await database.RowsAsync("SELECT key, session_id FROM cache_entries ORDER BY key"));
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task Values_of_rows_without_a_key_are_not_taken_away(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        await MakeAsync(database, ["CREATE TABLE cache_entries (key TEXT UNIQUE, session_id TEXT, metadata {json})", "CREATE INDEX idx_session_id ON cache_entries (session_id)"]);
        await database.RunAsync("INSERT INTO cache_entries (session_id) VALUES ('mine')");
        CatalogSchema schema = new(database.Address, TestDatabase.Provider);
        await schema.MigrateAsync();
        await schema.RollbackAsync(2);
        CatalogException refused = await Assert.ThrowsAsync<CatalogException>(() => schema.RollbackAsync(1));
        Assert.Contains("1 rows without", refused.Message, StringComparison.Ordinal);
        Assert.Equal(["-|mine"], await database.RowsAsync("SELECT key, session_id FROM cache_entries WHERE key IS NULL"));
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task A_schema_of_the_first_release_goes_on(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        CacheCatalog catalog = await database.CatalogAsync();
        await catalog.RecordAsync(Ours);

        // The record of an older release: with checksums of its own, and without the parts that were there before.
        string[] checksums = database.IsSqlite
            ? ["224b8a91d7bd5e1ad252aa75e05ea360756b339eaac18dd17c631233351bb677", "fd7712db1f00e8aa0ac7bb4af4b80822124fb1eeb876691abb76cf0d7a277144", "32b65c6a5c42bbeb387996e09b2ca9667aef8b258a6a51c46a75a43d00637a73"]
            : ["d98de1a2855097bca6843e2382b6c6e562542906e206e88959128f5e149545a0", "480c597111a33cae309b2955c222618a19685b1ce79103d3fbef62263f4c9664", "79c1589b01d6830936cf42b5222a50cfe70215f0ed33994d85c26ef170a4a475"];
        await database.RunAsync([.. checksums.Select((sum, i) => $"UPDATE kvcache_schema SET checksum = '{sum}' WHERE version = {i + 1}"), "ALTER TABLE kvcache_schema DROP COLUMN added"]);
        CatalogSchema schema = new(database.Address, TestDatabase.Provider);
        Assert.Empty((await schema.StatusAsync()).Differences);
        Assert.Equal([3, 2], (await schema.RollbackAsync(1)).Select(s => s.Version));

        // Its tables aside had keys of at most 255 characters, and every column.
        Assert.Equal([2, 3], (await schema.MigrateAsync()).Select(s => s.Version));
        Assert.Equal(Ours, await catalog.FindAsync(Ours.Key));
        await schema.RollbackAsync(1);
        Assert.Equal(["0"], await database.RowsAsync("SELECT count(*) FROM kvcache_schema WHERE version > 1"));
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task A_lost_record_of_a_step_is_made_again(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        CacheCatalog catalog = await database.CatalogAsync();
        await catalog.RecordAsync(Ours);
        await database.RunAsync("DELETE FROM kvcache_schema WHERE version = 3");
        Assert.Equal([3], (await catalog.Schema.MigrateAsync()).Select(s => s.Version));
        await database.RunAsync("DROP TABLE kvcache_schema");
        Assert.Equal([3], (await catalog.Schema.MigrateAsync()).Select(s => s.Version));
        Assert.Equal(Ours, await catalog.FindAsync(Ours.Key));
    }

    [Theory, OnPostgres]
    public async Task A_table_of_another_schema_is_found_by_the_address_and_never_passed_over(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        await database.RunAsync("CREATE SCHEMA \"App one\"", "CREATE TABLE \"App one\".cache_entries (key TEXT PRIMARY KEY)", "CREATE TABLE \"App one\".kvcache_other (i INTEGER)");
        CatalogException refused = await Assert.ThrowsAsync<CatalogException>(() => new CatalogSchema(database.Address, TestDatabase.Provider).MigrateAsync());
        Assert.Equal("E003", refused.Code);
        Assert.Contains("schema App one: add ?options=-csearch_path%3DApp%20one ", refused.Message, StringComparison.Ordinal);

        CatalogSchema there = new(database.Address + "?options=-csearch_path%3D%22App%5C%20one%22%2Cpublic", TestDatabase.Provider);
        await there.MigrateAsync();
        Assert.Equal(["App one"], await database.RowsAsync("SELECT schemaname FROM pg_tables WHERE tablename = 'kvcache_schema'"));
        Assert.EndsWith("?options=-csearch_path%3D%22App%5C%20one%22%2Cpublic", there.Address, StringComparison.Ordinal);

        // Another catalog beside it, in a schema that the address names.
        CatalogSchema beside = new(database.Address + "?options=-csearch_path%3Dpublic", TestDatabase.Provider);
        Assert.Equal(0, (await beside.StatusAsync()).Version);
        await beside.MigrateAsync();
        Assert.Equal([3, 2], (await there.RollbackAsync(1)).Select(s => s.Version));
        Assert.Equal(3, (await beside.StatusAsync()).Version);
    }

    [Theory, OnPostgres]
    public async Task An_old_table_later_in_the_path_is_migrated_where_it_lies(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        await database.RunAsync(
            "CREATE SCHEMA app", "CREATE TABLE public.cache_entries (key TEXT PRIMARY KEY)", "CREATE TABLE app.other (session_id TEXT)", "CREATE INDEX idx_session_id ON app.other (session_id)");
        CatalogSchema schema = new(database.Address + "?options=-csearch_path%3Dapp%2Cpublic", TestDatabase.Provider);
        await schema.MigrateAsync();
        await schema.RollbackAsync(1);
        Assert.Equal(["app"], await database.RowsAsync("SELECT schemaname FROM pg_indexes WHERE indexname = 'idx_session_id'"));
        Assert.Equal(["public"], await database.RowsAsync("SELECT schemaname FROM pg_tables WHERE tablename = 'kvcache_schema'"));
    }

    // Every half of version 2 over every kind of key.
    private static IEnumerable<string[]> Halves(bool isSqlite) =>
        from key in Keys
        from half in Enumerable.Range(0, 8)
        where half < 5 || (half & 1) == 1
        select new[]
        {
            $"CREATE TABLE cache_entries ({key.Split(", PRIMARY")[0]}, value {{bytes}}, created_at TIMESTAMP, accessed_at TIMESTAMP{(key.Contains(", PRIMARY", StringComparison.Ordinal) ? ", PRIMARY" + key.Split(", PRIMARY")[1] : "")})",
            (half & 1) == 0 ? "" : $"ALTER TABLE cache_entries ADD COLUMN session_id {(isSqlite && half == 3 ? "TEXT" : "VARCHAR(255)")}",
            (half & 2) == 0 ? "" : "ALTER TABLE cache_entries ADD COLUMN metadata {json}",
            (half & 5) == 5 ? "CREATE INDEX idx_session_id ON cache_entries (session_id)" : "",
        };

    private static async Task MakeAsync(TestDatabase database, string[] statements)
    {
        await database.RunAsync("CREATE TABLE owners (id INTEGER PRIMARY KEY)");
        foreach (string statement in statements.Where(s => s.Length > 0))
        {
            await database.RunAsync(statement
                .Replace("{serial}", database.IsSqlite ? "id INTEGER PRIMARY KEY AUTOINCREMENT" : "id SERIAL PRIMARY KEY", StringComparison.Ordinal)
                .Replace("{bytes}", database.IsSqlite ? "BLOB" : "BYTEA", StringComparison.Ordinal)
                .Replace("{json}", database.IsSqlite ? "JSON" : "JSONB", StringComparison.Ordinal));
        }
    }

    private static async Task UpAndDownAsync(TestDatabase database)
    {
        CatalogSchema schema = new(database.Address, TestDatabase.Provider);
        SchemaStatus found = await schema.StatusAsync();
        (string time, string at) = await ColumnsAsync(database, "created_at") ? (", created_at", ", '2024-05-06 07:08:09'") : (string.Empty, string.Empty);
        await database.RunAsync($"INSERT INTO cache_entries (key{time}) SELECT 'old'{at} WHERE {(await ColumnsAsync(database, "value", notNull: true) ? "1 = 0" : "1 = 1")}");
        List<string> rows = await RowsAsync(database);
        Assert.Equal((await schema.PlanAsync()).Select(s => s.Version), (await schema.MigrateAsync()).Select(s => s.Version));
        Assert.Empty((await schema.StatusAsync()).Differences);
        CacheCatalog catalog = new(database.Address, TestDatabase.Provider);
        await catalog.RecordAsync(Ours);
        await catalog.RecordAsync(Ours);
        Assert.Equal(Ours, await catalog.FindAsync(Ours.Key));
        Assert.Equal([Ours.Key], (await catalog.ListAsync(new CatalogFilter { Metadata = """{"a":1}""", Session = "s", Tenant = "t" })).Entries.Select(e => e.Key));
        await catalog.DeleteAsync(Ours.Key);

        await schema.RollbackAsync(found.Version);
        Assert.Equal(rows, await RowsAsync(database));
        await schema.MigrateAsync();
        Assert.Empty((await schema.StatusAsync()).Differences);
        await schema.RollbackAsync(found.Version);
        Assert.Equal(rows, await RowsAsync(database));
        await database.RunAsync("DELETE FROM cache_entries");
    }

    private static async Task<bool> ColumnsAsync(TestDatabase database, string name, bool notNull = false) => (await database.RowsAsync(database.IsSqlite
        ? $"SELECT name FROM pragma_table_info('cache_entries') WHERE name = '{name}'{(notNull ? " AND \"notnull\"" : "")}"
        : $"SELECT attname FROM pg_attribute WHERE attrelid = 'cache_entries'::regclass AND attname = '{name}' AND NOT attisdropped{(notNull ? " AND attnotnull" : "")}")).Count > 0;

    private static Task<List<string>> RowsAsync(TestDatabase database) => database.RowsAsync("SELECT * FROM cache_entries ORDER BY key");

    // Columns with types and bounds, and indexes with their definitions.
    private static Task<List<string>> LookAsync(TestDatabase database) => database.RowsAsync(database.IsSqlite
        ? """
          SELECT name || ' ' || type || ' ' || "notnull" || ' ' || coalesce(dflt_value, '-') || ' ' || pk FROM pragma_table_info('cache_entries')
          UNION ALL SELECT type || ' ' || coalesce(sql, name) FROM sqlite_master WHERE name NOT LIKE 'kvcache_%' AND type <> 'table' ORDER BY 1
          """
        : """
          SELECT a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' ' || a.atthasdef FROM pg_attribute a
          WHERE a.attrelid = 'cache_entries'::regclass AND a.attnum > 0 AND NOT a.attisdropped
          UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'cache_entries'::regclass ORDER BY 1
          """);
}
