using System.Text.Json;
using KvCacheGpu.Catalog;
using KvCacheGpu.Configuration;
using KvCacheGpu.Import;
using Microsoft.Data.Sqlite;

namespace KvCacheGpu.Cli.Tests;

/// <summary>The whole upgrade: configuration, environment, data and database in one run that is undone by one command.</summary>
public sealed class UpgradeTests : IDisposable
{
    private const string OldEnv = "# mine\nKV_CACHE_SIZE=4096\n";

    private readonly string _root = Directory.CreateTempSubdirectory("kvcache-upgrade-").FullName;
    private readonly byte[] _oldCache;

    public UpgradeTests()
    {
        File.WriteAllText(Env, OldEnv);
        using (FileStream file = File.Create(Cache))
        {
            TorchWriter.Write(file, new ImportGeometry(1, 2, 16, 16), ElementType.Float32, [new TorchSequence("chat", 20, Fill)]);
        }

        _oldCache = File.ReadAllBytes(Cache);
        Execute("CREATE TABLE cache_entries (key VARCHAR(255) PRIMARY KEY, value BLOB, created_at TIMESTAMP, accessed_at TIMESTAMP)");
        Execute("INSERT INTO cache_entries VALUES ('mine', x'0102', '2024-01-01 00:00:00', '2024-01-01 00:00:00')");
    }

    private string Env => Path.Combine(_root, ".env");

    private string Cache => Path.Combine(_root, "old_cache.pt");

    private string Store => Path.Combine(_root, "store");

    private string Database => "sqlite:" + Path.Combine(_root, "catalog.db");

    public void Dispose()
    {
        SqliteConnection.ClearAllPools();
        Directory.Delete(_root, recursive: true);
    }

    [Fact]
    public void One_run_takes_all_up_and_one_command_takes_it_back()
    {
        Tool migrated = Migrate();
        Assert.Equal(0, migrated.Exit);
        Assert.Contains("[x] Migrate the cache's data: snapshot old_cache of 1 entries", migrated.Output, StringComparison.Ordinal);
        Assert.Contains("[x] Migrate the database: ", migrated.Output, StringComparison.Ordinal);
        Assert.Equal(20, Tool.Json("snapshot", "inspect", "old_cache", "--store", Store).GetProperty("snapshot").Long("tokens"));
        Assert.Equal(3, Version());
        Assert.Contains("nothing to migrate", Migrate().Output, StringComparison.Ordinal);

        Assert.Equal(0, Tool.Run("rollback", "--env", Env).Exit);
        Assert.Equal(OldEnv, File.ReadAllText(Env));
        Assert.Equal(_oldCache, File.ReadAllBytes(Cache));
        Assert.Empty(Tool.Json("snapshot", "list", "--store", Store).EnumerateArray());
        Assert.Equal(1, Version());
        Assert.Equal(1L, Execute("SELECT count(*) FROM cache_entries WHERE key = 'mine' AND value = x'0102'"));
    }

    [Fact]
    public void What_cannot_be_read_is_refused_before_anything_changes()
    {
        File.WriteAllBytes(Cache, [0x80, 0x04, (byte)'c', (byte)'o', (byte)'s', (byte)'\n', (byte)'s', (byte)'y', (byte)'s', (byte)'t', (byte)'e', (byte)'m', (byte)'\n', (byte)'.']);
        Assert.NotEqual(0, Migrate().Exit);
        Assert.Equal((OldEnv, 1), (File.ReadAllText(Env), Version()));
        Assert.False(Directory.Exists(Store));
    }

    [Fact]
    public void A_database_that_fails_in_the_middle_undoes_the_rest()
    {
        // Step 2 goes through, step 3 finds that no entry can be written.
        Execute("CREATE TRIGGER full BEFORE INSERT ON cache_entries BEGIN SELECT raise(abort, 'no more rows'); END");
        Tool failed = Migrate();
        Assert.Equal(2, failed.Exit);
        Assert.Contains("E003", failed.Error, StringComparison.Ordinal);
        Assert.Contains("no more rows", failed.Error, StringComparison.Ordinal);
        Execute("DROP TRIGGER full");
        AssertUndone();
    }

    [Fact]
    public void A_database_that_another_holds_undoes_the_rest()
    {
        using SqliteConnection other = new($"Data Source={Path.Combine(_root, "catalog.db")}");
        other.Open();
        using (SqliteTransaction held = other.BeginTransaction(deferred: false))
        {
            CatalogOptions impatient = new() { Retries = 0, Timeout = TimeSpan.FromSeconds(1) };
            KvUpgrade upgrade = new(new KvCacheConfigManager(KvConfigLocation.Find(env: Env)), lossless: true, [new DataStep(Cache, null, Store), new DatabaseStep(Database, impatient)]);
            Assert.Equal("E008", Assert.Throws<CatalogException>(() => upgrade.Run()).Code);
        }

        AssertUndone();
    }

    [Fact]
    public void A_snapshot_that_another_took_the_name_of_stays()
    {
        Assert.Equal(0, Migrate().Exit);
        Assert.Equal(0, Tool.Run("run", "--prompt-tokens", "1,2,3", "--max-new-tokens", "2", "--save", "old_cache", "--store", Store).Exit);
        Assert.Equal(0, Tool.Run("rollback", "--env", Env).Exit);
        Assert.Single(Tool.Json("snapshot", "list", "--store", Store).EnumerateArray());
    }

    [Fact]
    public void A_saved_run_is_recorded_and_a_catalog_that_is_down_is_a_remark()
    {
        string[] run = ["run", "--prompt-tokens", "1,2,3", "--max-new-tokens", "2", "--save", "a", "--store", Store];
        Tool early = Tool.Run([.. run, "--database", Database]);
        Assert.Equal(0, early.Exit);
        Assert.Contains("not recorded in the catalog: E003", early.Error, StringComparison.Ordinal);
        Assert.Equal(0, Tool.Run("db", "migrate", "--database", Database).Exit);
        Assert.Equal(1, Tool.Json("db", "rebuild", "--database", Database, "--store", Store).Long("recorded"));
        Assert.Equal(0, Tool.Run([.. run[..^4], "--save", "b", "--store", Store, "--database", Database]).Exit);
        Assert.Equal(1L, Execute("SELECT count(*) FROM cache_entries WHERE name = 'b' AND tokens > 0"));
        Tool.Refused(2, "E003", "run", "--prompt-tokens", "1", "--database", Database);

        // A rebuild of another store does not change the entries of these snapshots.
        string other = Path.Combine(_root, "other");
        Assert.Equal(0, Tool.Run([.. run[..^4], "--save", "c", "--store", other]).Exit);
        JsonElement rebuilt = Tool.Json("db", "rebuild", "--database", Database, "--store", other);
        Assert.Equal((1L, 0L), (rebuilt.Long("recorded"), rebuilt.Long("removed")));
        Assert.Equal(3L, Execute("SELECT count(*) FROM cache_entries WHERE path IS NOT NULL"));
    }

    private void AssertUndone()
    {
        Assert.Equal((OldEnv, 1), (File.ReadAllText(Env), Version()));
        Assert.Empty(Tool.Json("snapshot", "list", "--store", Store).EnumerateArray());
        Assert.Equal(0, Migrate().Exit);
        Assert.Equal(3, Version());
    }

    private Tool Migrate() => Tool.Run("migrate", "--env", Env, "--lossless", "--data", Cache, "--store", Store, "--database", Database);

    private long Version() => Tool.Json("db", "status", "--database", Database).Long("version");

    private object? Execute(string sql)
    {
        using SqliteConnection connection = new($"Data Source={Path.Combine(_root, "catalog.db")}");
        connection.Open();
        using SqliteCommand command = connection.CreateCommand();
        command.CommandText = sql;
        return command.ExecuteScalar();
    }

    private static void Fill(int layer, int first, int tokens, Span<float> keys, Span<float> values)
    {
        for (int i = 0; i < keys.Length; i++)
        {
            (keys[i], values[i]) = (MathF.Sin(first + i), MathF.Cos((layer * 7) + i));
        }
    }
}
