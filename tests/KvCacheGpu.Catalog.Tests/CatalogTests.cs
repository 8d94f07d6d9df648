namespace KvCacheGpu.Catalog.Tests;

/// <summary>Entries that are recorded are found again unchanged, on both databases.</summary>
public sealed class CatalogTests
{
    private static readonly DateTimeOffset Noon = new(2026, 1, 2, 12, 0, 0, TimeSpan.FromHours(2));

    private static readonly CatalogEntry Whole = new()
    {
        Key = "k",
        Session = "s",
        Tenant = "t",
        Name = "n",
        Path = "/store",
        Checksum = "abc",
        FormatVersion = 1,
        Bytes = long.MaxValue,
        Layers = int.MaxValue,
        Tokens = 3_000_000_000,
        Metadata = """{"a":{"b":[1,"x",null,true]},"n":1.5}""",
        Created = Noon.AddMicroseconds(1),
        Accessed = Noon.AddMicroseconds(2),
    };

    [Theory, OnSqlite, OnPostgres]
    public async Task An_entry_reads_back_as_it_was_recorded(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        CacheCatalog catalog = await database.CatalogAsync();
        await catalog.RecordAsync(Whole);
        await catalog.RecordAsync(new CatalogEntry { Key = "bare", Created = Noon });

        Assert.Equal(Whole, await catalog.FindAsync("k"));
        Assert.Equal(new CatalogEntry { Key = "bare", Created = Noon, Accessed = Noon }, await catalog.FindAsync("bare"));
        Assert.Null(await catalog.FindAsync("K"));

        await catalog.RecordAsync(new CatalogEntry { Key = "k", Tokens = 7, Created = Noon });
        Assert.Equal(new CatalogEntry { Key = "k", Tokens = 7, Created = Noon, Accessed = Noon }, await catalog.FindAsync("k"));
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task Touch_and_delete_say_whether_it_was_there(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        CacheCatalog catalog = await database.CatalogAsync();
        await catalog.RecordAsync(Whole);

        Assert.True(await catalog.TouchAsync("k", Noon.AddHours(1)));
        Assert.Equal(Whole with { Accessed = Noon.AddHours(1) }, await catalog.FindAsync("k"));
        Assert.False(await catalog.TouchAsync("other"));
        Assert.False(await catalog.DeleteAsync("other"));
        Assert.True(await catalog.DeleteAsync("k"));
        Assert.Null(await catalog.FindAsync("k"));
        Assert.Empty((await catalog.ListAsync(new CatalogFilter { Metadata = """{"n":1.5}""" })).Entries);
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task Pages_follow_the_bytes_of_keys_and_miss_nothing(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        CacheCatalog catalog = await database.CatalogAsync();
        string[] keys = ["A", "Z", "a", "a ", "b", "é", "e\u0301", "\uFF5E", "\U0001F600", "_", "%"];
        foreach (string key in keys)
        {
            await catalog.RecordAsync(new CatalogEntry { Key = key, Session = key == "b" ? "one" : "many", Tenant = key.Length == 1 ? "t" : null });
        }

        List<string> seen = [];
        string? after = null;
        do
        {
            CatalogPage page = await catalog.ListAsync(null, after, 3);
            Assert.InRange(page.Entries.Count, 1, 3);
            seen.AddRange(page.Entries.Select(e => e.Key));
            after = page.Next;
        }
        while (after is not null);

        Assert.Equal(keys.OrderBy(k => Convert.ToHexString(System.Text.Encoding.UTF8.GetBytes(k)), StringComparer.Ordinal), seen);
        Assert.Equal(["b"], (await catalog.ListAsync(new CatalogFilter { Session = "one" })).Entries.Select(e => e.Key));
        Assert.Equal(["A", "Z", "_", "a"], (await catalog.ListAsync(new CatalogFilter { Session = "many", Tenant = "t" }, null, 5)).Entries.Select(e => e.Key).Where(k => k[0] < 128 && k != "%"));
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task A_rebuild_says_what_the_store_says_and_keeps_what_it_cannot_know(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        CacheCatalog catalog = await database.CatalogAsync();
        CatalogEntry session = new() { Key = "session", Session = "s", Created = Noon };
        await catalog.RecordAsync(Whole);
        await catalog.RecordAsync(session with { Accessed = Noon });
        await catalog.RecordAsync(Whole with { Key = "gone" });

        CatalogEntry kept = new() { Key = "k", Path = "/store", Tokens = 5, Created = Noon.AddDays(1) };
        CatalogEntry fresh = new() { Key = "new", Path = "/store", Created = Noon };
        Assert.Equal(new CatalogRebuild(2, 1), await catalog.RebuildAsync("/store", Stream(kept, fresh)));

        Assert.Equal(
            [kept with { Session = "s", Metadata = Whole.Metadata, Accessed = Whole.Accessed }, fresh with { Accessed = Noon }, session with { Accessed = Noon }],
            (await catalog.ListAsync()).Entries);
        CatalogException refused = await Assert.ThrowsAsync<CatalogException>(() => catalog.RebuildAsync("/store", Stream(fresh, session)));
        Assert.Equal("E003", refused.Code);
        Assert.Equal(3, (await catalog.ListAsync()).Entries.Count);
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task A_rebuild_leaves_other_stores_alone(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        CacheCatalog catalog = await database.CatalogAsync();
        CatalogEntry here = Whole with { Key = "here" }, there = Whole with { Key = "there", Path = "/Store" }, both = Whole with { Key = "both", Path = "/store/" };
        foreach (CatalogEntry entry in new[] { here, there, both })
        {
            await catalog.RecordAsync(entry);
        }

        CatalogEntry taken = both with { Path = "/store" };
        Assert.Equal(new CatalogRebuild(1, 1), await catalog.RebuildAsync("/store", Stream(taken)));
        Assert.Equal([taken, there], (await catalog.ListAsync()).Entries);
        Assert.Equal(new CatalogRebuild(0, 1), await catalog.RebuildAsync("/store", Stream()));
        Assert.Equal([there], (await catalog.ListAsync()).Entries);
        Assert.Equal("E003", (await Assert.ThrowsAsync<CatalogException>(() => catalog.RebuildAsync("/store", Stream(there)))).Code);
        Assert.Equal([there], (await catalog.ListAsync()).Entries);
    }

    [Theory, OnSqlite, OnPostgres]
    public async Task Without_its_tables_it_says_what_is_missing(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        CacheCatalog catalog = new(database.Address, TestDatabase.Provider);
        CatalogException refused = await Assert.ThrowsAsync<CatalogException>(() => catalog.FindAsync("k"));
        Assert.Equal(("E003", "version 0"), (refused.Code, refused.Actual));
        await catalog.Schema.MigrateAsync();
        Assert.Null(await catalog.FindAsync("k"));
    }

    internal static async IAsyncEnumerable<CatalogEntry> Stream(params CatalogEntry[] entries)
    {
        foreach (CatalogEntry entry in entries)
        {
            await Task.Yield();
            yield return entry;
        }
    }
}
