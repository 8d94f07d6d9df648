using System.Data.Common;
using System.Diagnostics;
using Xunit.Abstractions;

namespace KvCacheGpu.Catalog.Tests;

/// <summary>Over 100,000 entries every question is answered from an index: the database's own plan says so.</summary>
public sealed class IndexTests(ITestOutputHelper output)
{
    private const int Count = 100_000;

    [Theory, OnSqlite, OnPostgres]
    public async Task Lists_and_finds_among_100_000_entries_use_indexes(string kind)
    {
        await using TestDatabase database = await TestDatabase.CreateAsync(kind);
        CacheCatalog catalog = await database.CatalogAsync();
        await database.RunAsync(Fill(database.IsSqlite), "ANALYZE");
        CatalogDatabase open = database.Open();
        await using DbConnection connection = await open.OpenAsync(CancellationToken.None);
        foreach ((string what, CatalogFilter filter, string? after, int expected, string index) in new (string, CatalogFilter, string?, int, string)[]
        {
            ("first page", new(), null, 100, database.IsSqlite ? "autoindex" : "idx_cache_key"),
            ("page in the middle", new(), "k050000", 100, database.IsSqlite ? "autoindex" : "idx_cache_key"),
            ("session", new() { Session = "s77" }, null, 10, "idx_(cache_session|session_id)"),
            ("tenant", new() { Tenant = "t3" }, "k090000", 10, "idx_cache_tenant"),
            ("metadata", new() { Metadata = """{"run":4711}""" }, null, 1, database.IsSqlite ? "m" : "idx_cache_metadata"),
            ("all three", new() { Session = "s77", Tenant = "t77", Metadata = """{"model":"m7"}""" }, null, 10, "idx_(cache_|session_id)"),
        })
        {
            Stopwatch watch = Stopwatch.StartNew();
            Assert.Equal(expected, (await catalog.ListAsync(filter, after)).Entries.Count);
            double ms = watch.Elapsed.TotalMilliseconds;
            await using DbCommand command = catalog.ListCommand(connection, filter, after, 100, database.IsSqlite ? "EXPLAIN QUERY PLAN " : "EXPLAIN ");
            string plan = string.Join('\n', await TestDatabase.ReadAsync(command));
            output.WriteLine($"{kind}, {what}: {ms:F1} ms\n{plan}");
            Assert.DoesNotMatch("Seq Scan|SCAN cache_entries(?! USING INDEX)|SCAN m", plan);
            Assert.Matches(database.IsSqlite ? $"(USING|SEARCH) .*{index}" : $"(Index|Bitmap).* {index}", plan);
        }

        await using DbCommand find = open.Command(connection, (database.IsSqlite ? "EXPLAIN QUERY PLAN " : "EXPLAIN ") + "SELECT * FROM cache_entries WHERE key = @key", ("key", "k012345"));
        Assert.Matches("SEARCH cache_entries USING INDEX|Index Scan using (cache_entries_pkey|idx_cache_key)", string.Join('\n', await TestDatabase.ReadAsync(find)));
    }

    private static string Fill(bool isSqlite) => isSqlite
        ? $"""
          INSERT INTO cache_entries (key, session_id, tenant, metadata)
          WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {Count - 1})
          SELECT printf('k%06d', i), 's' || (i % 10000), 't' || (i % 1000), json_object('run', i, 'model', 'm' || (i % 10)) FROM n
          """
        : $"""
          INSERT INTO cache_entries (key, session_id, tenant, metadata)
          SELECT 'k' || lpad(i::text, 6, '0'), 's' || (i % 10000), 't' || (i % 1000), jsonb_build_object('run', i, 'model', 'm' || (i % 10)) FROM generate_series(0, {Count - 1}) i
          """;
}
