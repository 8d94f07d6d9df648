using System.Diagnostics;
using KvCacheGpu.Configuration;
using KvCacheGpu.Import;
using Microsoft.Data.Sqlite;

namespace KvCacheGpu.Cli.Tests;

/// <summary>Files that runs leave behind: none if they are refused, and only their result if they are killed and run again.</summary>
public sealed class LeftBehindTests : IDisposable
{
    private const string OldEnv = "KV_CACHE_SIZE=512\n";

    private readonly string _root = Directory.CreateTempSubdirectory("kvcache-left-").FullName;

    public LeftBehindTests()
    {
        File.WriteAllText(Env, OldEnv);
        using FileStream file = File.Create(Cache);
        TorchWriter.Write(file, new ImportGeometry(2, 2, 32, 32), ElementType.Float32, [new TorchSequence("chat", 700, (_, first, _, keys, values) =>
        {
            keys.Fill(first + 1);
            values.Fill(first + 2);
        })]);
    }

    private string Env => Path.Combine(_root, ".env");

    private string Cache => Path.Combine(_root, "old.pt");

    private string Store => Path.Combine(_root, "store");

    public void Dispose()
    {
        SqliteConnection.ClearAllPools();
        Directory.Delete(_root, recursive: true);
    }

    [Fact]
    public void An_address_that_is_refused_leaves_nothing_and_says_so_in_one_line()
    {
        string pipe = Path.Combine(_root, "pipe"), file = Path.Combine(_root, "long");
        File.WriteAllText(file, new string('x', 5 << 20));
        using (Process made = Process.Start("mkfifo", pipe))
        {
            made.WaitForExit();
        }

        string[] before = [.. Entries()];
        foreach (string[] command in new[]
        {
            new[] { "db", "status" }, ["db", "migrate"], ["db", "migrate", "--dry-run"], ["db", "rollback"], ["db", "rollback", "--to", "1"], ["db", "rebuild", "--store", Store],
            ["migrate", "--env", Env], ["rollback", "--env", Env], ["run", "--prompt-tokens", "1", "--save", "a", "--store", Store],
        })
        {
            foreach (string address in new[] { "", "   ", "\t", _root, file, pipe, "sqlite:" + _root, "sqlite:" + pipe, "sqlite:" + new string('p', 1 << 20), "postgres://me:hush@hush/hush@127.0.0.1/db" })
            {
                // Files to read are checked before a database is; a run that saves continues without its catalog.
                if ((command[0] is "run" or "rollback" || command.Contains("rebuild")) && address.StartsWith("sqlite:/", StringComparison.Ordinal))
                {
                    continue;
                }

                string line = Tool.Refused(2, "E003", [.. command, "--database", address]);
                Assert.InRange(line.Length, 10, 600);
                Assert.DoesNotContain("hush", line, StringComparison.Ordinal);
                Assert.Equal(before, Entries());
            }
        }
    }

    [Fact]
    public void What_is_refused_leaves_no_folder_of_state()
    {
        string missing = "sqlite:" + Path.Combine(_root, "no", "such", "catalog.db"), there = "sqlite:" + Path.Combine(_root, "catalog.db");
        File.WriteAllText(Path.Combine(_root, "bad.pkl"), "no pickle");
        File.WriteAllText(Path.Combine(_root, "bad.env"), "KV_CACHE_SIZE=many\n");
        File.WriteAllText(Path.Combine(_root, "new.env"), "KV_CACHE_MAX_TOKENS=64\nKV_CACHE_ENABLE_PREFETCH=true\nKV_CACHE_PREFETCH_SIZE=8\n");
        string[] before = [.. Entries()];
        foreach (string[] args in new[]
        {
            new[] { "migrate", "--env", Env, "--database", missing }, ["migrate", "--env", Env, "--data", Path.Combine(_root, "bad.pkl"), "--store", Store, "--database", there],
            ["migrate", "--env", Path.Combine(_root, "bad.env"), "--database", there], ["config", "migrate", "--env", Path.Combine(_root, "bad.env")],
            ["rollback", "--env", Env], ["rollback", "20000101-000000-000", "--env", Env], ["config", "restore", "20000101-000000-000", "--env", Env],
        })
        {
            Tool tool = Tool.Run(args);
            Assert.True(tool.Exit is 1 or 2, $"{string.Join(' ', args)}: {tool.Exit}");
            Assert.Equal(before, Entries());
        }

        // If there is nothing to do, no folder stays.
        Assert.Equal(0, Tool.Run("migrate", "--env", Path.Combine(_root, "new.env")).Exit);
        Assert.Equal(0, Tool.Run("config", "migrate", "--env", Path.Combine(_root, "new.env")).Exit);
        Assert.Equal(0, Tool.Run("db", "status", "--database", there).Exit);
        Assert.Equal(0, Tool.Run("db", "migrate", "--dry-run", "--database", there).Exit);
        Assert.Equal(before, Entries());
    }

    [Fact]
    public void A_run_that_fails_before_its_database_step_makes_no_database()
    {
        string path = Path.Combine(_root, "catalog.db");
        KvUpgrade upgrade = new(new KvCacheConfigManager(KvConfigLocation.Find(env: Env)), lossless: true, [new FailingStep(), new DatabaseStep("sqlite:" + path)]);
        Assert.Throws<NotSupportedException>(() => upgrade.Run());
        Assert.Equal((OldEnv, false), (File.ReadAllText(Env), File.Exists(path)));
        Assert.Equal(KvUpgradeState.RolledBack, upgrade.ListRuns().Single().State);
    }

    [Fact]
    public void A_conversion_of_a_dead_process_is_swept_and_that_of_a_living_one_is_not()
    {
        string dead = $"{Store}.unverified-{Guid.NewGuid():n}", another = $"{Store}.unverified-mine", other = $"{Store}2.unverified-{Guid.NewGuid():n}";
        Array.ForEach([dead, another, other], folder => File.WriteAllText(Path.Combine(Directory.CreateDirectory(folder).FullName, "pages"), "x"));
        using (UnverifiedStore living = UnverifiedStore.Make(Store))
        {
            UnverifiedStore.Sweep(Store + "/");
            Assert.Equal((true, false, true, true), (Directory.Exists(Path.GetDirectoryName(living.StorePath)), Directory.Exists(dead), Directory.Exists(another), Directory.Exists(other)));
        }

        Assert.Equal([another, other], Directory.EnumerateDirectories(_root, "*.unverified-*").Order());
    }

    [Fact]
    public void An_export_of_a_dead_process_is_swept_and_that_of_a_living_one_is_not()
    {
        Assert.Equal(0, Tool.Run("run", "--prompt-tokens", "1,2", "--max-new-tokens", "1", "--save", "a", "--store", Store).Exit);
        string file = Path.Combine(_root, "out.pt"), dead = $"{file}.{Guid.NewGuid():n}.tmp", living = $"{file}.{Guid.NewGuid():n}.tmp", mine = $"{file}.notes.tmp";
        Array.ForEach([dead, mine], one => File.WriteAllText(one, "x"));
        using (FileStream held = new(living, FileMode.CreateNew))
        {
            Assert.Equal(0, Tool.Run("data", "export", "a", "--store", Store, "--to", file).Exit);
        }

        Assert.Equal((false, true, true), (File.Exists(dead), File.Exists(living), File.Exists(mine)));
    }

    // kill -9 while the conversion lies beside the store: the next migrate, or the next rollback, leaves the store alone.
    [Fact]
    public async Task A_migration_that_is_killed_in_its_data_step_leaves_no_copy_behind()
    {
        string database = "sqlite:" + Path.Combine(_root, "catalog.db");
        for (int round = 0, killed = 0; killed < 2; round++)
        {
            using (Process process = Process.Start(new ProcessStartInfo(
                Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet",
                ["exec", Path.Combine(AppContext.BaseDirectory, "kvcache.dll"), "migrate", "--env", Env, "--lossless", "--data", Cache, "--to", "chats", "--store", Store, "--database", database])
            { RedirectStandardOutput = true, RedirectStandardError = true })!)
            {
                while (!process.HasExited && !Left().Any())
                {
                    await Task.Delay(1);
                }

                process.Kill();
                await process.WaitForExitAsync();
            }

            bool isLeft = Left().Any();
            if (killed % 2 == 0)
            {
                Assert.Equal(0, Tool.Run("migrate", "--env", Env, "--lossless", "--data", Cache, "--to", "chats", "--store", Store, "--database", database).Exit);
                Assert.Empty(Left());
                Assert.Equal(0, Tool.Run("snapshot", "verify", "chats", "--store", Store).Exit);
            }

            Assert.Equal(0, Tool.Run("rollback", "--env", Env).Exit);
            Assert.Empty(Left());
            Assert.Equal(OldEnv, File.ReadAllText(Env));
            Assert.Empty(Directory.EnumerateFiles(_root, "*.kvcache-tmp", SearchOption.AllDirectories));
            killed += isLeft ? 1 : 0;
            Assert.True(round < 40, "no process was killed while its conversion lay there");
            SqliteConnection.ClearAllPools();
            Directory.Delete(Path.Combine(_root, ".kvcache"), recursive: true);
        }
    }

    private IEnumerable<string> Left() => Directory.EnumerateDirectories(_root, "store.unverified-*");

    private IEnumerable<string> Entries() => Directory.EnumerateFileSystemEntries(_root, "*", new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = 0 }).Order();

    private sealed class FailingStep : IUpgradeStep
    {
        public string Name => "data";

        public string Title => "Fails";

        public string? Plan() => "plan";

        public string Do(string plan) => throw new NotSupportedException();

        public void Undo(string plan)
        {
        }

        public void Verify(string plan)
        {
        }
    }
}
