using System.Diagnostics;
using System.Text.Json;
using Microsoft.Data.Sqlite;
using Xunit.Abstractions;

namespace KvCacheGpu.Cli.Tests;

public sealed class DbTests(ITestOutputHelper output) : IDisposable
{
    private const int Rows = 20_000;

    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-db-").FullName;

    private string Address => "sqlite:" + Path.Combine(_folder, "catalog.db");

    [Fact]
    public void Status_migrate_and_rollback_tell_what_they_did()
    {
        JsonElement status = Schema.Check(Tool.Json("db", "status", "--database", Address), "database string, version number, newest number, recorded bool, differences array");
        Assert.Equal((Address, 0, 3), (status.Text("database"), status.Long("version"), status.Long("newest")));

        JsonElement dry = Schema.Check(Tool.Json("db", "migrate", "--dry-run", "--database", Address), "database string, dry_run bool, from number, version number, steps array");
        foreach (JsonElement step in dry.GetProperty("steps").EnumerateArray())
        {
            Schema.Check(step, "version number, direction string, checksum string, note string?, sql array");
            Assert.NotEqual(0, step.GetProperty("sql").GetArrayLength());
        }

        Assert.Equal((true, 0, 3), (dry.GetProperty("dry_run").GetBoolean(), dry.Long("from"), dry.Long("version")));
        Assert.Equal(0, Tool.Json("db", "status", "--database", Address).Long("version"));

        Assert.Equal(3, Tool.Json("db", "migrate", "--database", Address).Long("version"));
        Assert.Equal(0, Tool.Json("db", "migrate", "--database", Address).GetProperty("steps").GetArrayLength());
        Assert.Equal(2, Tool.Json("db", "rollback", "--database", Address).Long("version"));
        Assert.Equal(1, Tool.Json("db", "rollback", "--to", "1", "--database", Address).Long("version"));
    }

    [Fact]
    public void People_read_the_SQL_and_where_things_are_kept()
    {
        Tool dry = Tool.Run("db", "migrate", "--dry-run", "--database", Address);
        Assert.Equal((0, string.Empty), (dry.Exit, dry.Error));
        Assert.Contains("CREATE TABLE cache_entries", dry.Output, StringComparison.Ordinal);
        Assert.Equal(0, Tool.Run("db", "migrate", "--database", Address).Exit);
        Assert.Contains("version 3 of 3", Tool.Run("db", "status", "--database", Address).Output, StringComparison.Ordinal);
        Assert.Contains("kvcache_aside_3", Tool.Run("db", "rollback", "--database", Address).Output, StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_wrong_is_one_line_without_the_password()
    {
        Tool.Refused(2, "E003", "db", "status", "--database", "mysql://x");
        Tool.Refused(2, "E003", "db", "status");
        Tool.Refused(2, "E003", "db", "migrate", "--database", "sqlite:");
        Tool.Refused(2, "E003", "db", "rollback", "--to", "0", "--database", Address);
        Tool.Refused(2, "E003", "db", "rollback", "--to", "2", "--database", Address);
        Tool.Refused(1, "E008", "db", "status", "--database", "sqlite:/nowhere/at/all/catalog.db");
        foreach ((int exit, string code, string address) in new[]
        {
            (1, "E008", "postgres://me:s3cret-word@127.0.0.1:1/kv"), (2, "E003", "postgres://me:s3cret-word@127.0.0.1:port/kv"), (2, "E003", "postgres://me:s3cret-word@127.0.0.1/kv?sslmode=maybe"),
        })
        {
            Assert.DoesNotContain("s3cret", Tool.Refused(exit, code, "db", "migrate", "--database", address), StringComparison.Ordinal);
        }

        Tool.Json("db", "migrate", "--database", Address);
        Execute("INSERT INTO kvcache_schema (version, checksum) VALUES (9, 'x')");
        Tool.Refused(1, "E007", "db", "migrate", "--database", Address);
    }

    // kill -9 while the journal of a transaction lies on the disk: the next run finds every row and finishes.
    [Fact]
    public async Task A_migrating_process_that_is_killed_loses_nothing()
    {
        Random random = new(5);
        int killed = 0, inside = 0;
        while (killed < 36)
        {
            SqliteConnection.ClearAllPools();
            foreach (string file in Directory.EnumerateFiles(_folder))
            {
                File.Delete(file);
            }

            Execute(
                $"""
                CREATE TABLE cache_entries (key VARCHAR(255) PRIMARY KEY, value BLOB, created_at TIMESTAMP, accessed_at TIMESTAMP);
                INSERT INTO cache_entries WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {Rows})
                SELECT 'k' || i, zeroblob(i % 50), '2025-01-01 00:00:00', NULL FROM n
                """);
            SqliteConnection.ClearAllPools();
            string before = Sum();
            using (Process process = Process.Start(new ProcessStartInfo(
                Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet",
                ["exec", Path.Combine(AppContext.BaseDirectory, "kvcache.dll"), "db", "migrate", "--database", Address]) { RedirectStandardOutput = true, RedirectStandardError = true })!)
            {
                SpinWait.SpinUntil(() => process.HasExited || File.Exists(Path.Combine(_folder, "catalog.db-journal")));
                await Task.Delay(random.Next(0, 60));
                killed += process.HasExited ? 0 : 1;
                process.Kill();
                await process.WaitForExitAsync();
            }

            inside += File.Exists(Path.Combine(_folder, "catalog.db-journal")) ? 1 : 0;
            JsonElement status = Tool.Json("db", "status", "--database", Address);
            Assert.Equal(0, status.GetProperty("differences").GetArrayLength());
            Assert.Equal(before, Sum());
            Assert.Equal(3, Tool.Json("db", "migrate", "--database", Address).Long("version"));
            Assert.Equal(before, Sum());
        }

        output.WriteLine($"{killed} processes killed, {inside} with a transaction open");
        Assert.InRange(inside, 1, killed);
    }

    public void Dispose()
    {
        SqliteConnection.ClearAllPools();
        Directory.Delete(_folder, recursive: true);
    }

    private string Sum() => Execute("SELECT count(*) || ' ' || sum(length(value)) || ' ' || sum(length(key)) || ' ' || count(created_at) || ' ' || count(accessed_at) FROM cache_entries");

    private string Execute(string sql)
    {
        using SqliteConnection connection = new($"Data Source={Path.Combine(_folder, "catalog.db")}");
        connection.Open();
        using SqliteCommand command = connection.CreateCommand();
        command.CommandText = sql;
        return $"{command.ExecuteScalar()}";
    }
}
