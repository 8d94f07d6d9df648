using System.Text;

namespace KvCacheGpu.Cli.Tests;

/// <summary>A password of another program, of an address, or of a store is in no output, no journal, and no file that others may read.</summary>
public sealed class SecretTests : IDisposable
{
    private const string Secret = "hushhush";

    private readonly string _root = Directory.CreateTempSubdirectory("kvcache-secret-").FullName;

    private string Env => Path.Combine(_root, ".env");

    public void Dispose() => Directory.Delete(_root, recursive: true);

    [Fact]
    public void Other_programs_variables_are_never_shown()
    {
        File.WriteAllText(
            Env,
            $"# was {Secret}\nDB_PASSWORD={Secret}\nKV_CACHE_SIZE=64\nexport TOKEN={Secret}\n# and {Secret}\nKV_CACHE_STRATEGY=lru\nLAST={Secret}");
        foreach (string[] args in new[]
        {
            new[] { "config", "show" }, ["config", "show", "--json"], ["config", "validate"], ["config", "validate", "--json"], ["config", "migrate", "--dry-run"],
            ["config", "backup"], ["config", "backups", "--json"], ["migrate"], ["rollback"], ["config", "migrate"],
        })
        {
            Tool tool = Tool.Run([.. args, "--env", Env]);
            Assert.Equal(0, tool.Exit);
            Assert.DoesNotContain(Secret, tool.Output + tool.Error, StringComparison.Ordinal);
            if (args.Contains("--dry-run"))
            {
                Assert.Contains("-KV_CACHE_SIZE=64", tool.Output, StringComparison.Ordinal);
            }
        }

        // Backups hold the file, for its owner alone; nothing else does.
        foreach (string file in Directory.EnumerateFiles(Path.Combine(_root, ".kvcache"), "*", SearchOption.AllDirectories))
        {
            bool isBackup = file.EndsWith(".backup", StringComparison.Ordinal);
            Assert.True(isBackup || !Encoding.UTF8.GetString(File.ReadAllBytes(file)).Contains(Secret, StringComparison.Ordinal), file);
            if (!OperatingSystem.IsWindows())
            {
                Assert.Equal(UnixFileMode.None, File.GetUnixFileMode(file) & ~(UnixFileMode.UserRead | UnixFileMode.UserWrite));
            }
        }
    }

    [Fact]
    public void An_address_is_never_repeated_with_its_password()
    {
        File.WriteAllText(Env, "KV_CACHE_SIZE=64\n");
        foreach (string address in new[]
        {
            $"postgres://me:{Secret}@127.0.0.1:1/db", $"postgresql+psycopg2://me:{Secret}@127.0.0.1:1/db", $"postgres://me:{Secret}@host/x@127.0.0.1:1/db", $"postgres://me:p@{Secret}/x@127.0.0.1:1/db",
            $"postgres://me:9/{Secret}@127.0.0.1:1/db", $"postgres://me:9?{Secret}@127.0.0.1:1/db", $"mysql://me:{Secret}@h/db", $"Host=h;Password={Secret}",
        })
        {
            foreach (string[] args in new[] { new[] { "db", "status" }, ["migrate", "--env", Env], ["run", "--prompt-tokens", "1", "--max-new-tokens", "1", "--save", "a", "--store", Path.Combine(_root, "store")] })
            {
                Tool tool = Tool.Run([.. args, "--database", address]);
                Assert.DoesNotContain(Secret, tool.Output + tool.Error, StringComparison.OrdinalIgnoreCase);
                Assert.DoesNotContain("   at ", tool.Error, StringComparison.Ordinal);
            }
        }

        Assert.False(Directory.Exists(Path.Combine(_root, ".kvcache")));
    }

    [Fact]
    public void A_key_that_is_none_is_not_repeated()
    {
        string? before = Environment.GetEnvironmentVariable(StoreChoice.KeyVariable);
        try
        {
            Environment.SetEnvironmentVariable(StoreChoice.KeyVariable, Secret);
            Assert.DoesNotContain(Secret, Tool.Refused(2, "E003", "snapshot", "list", "--store", _root), StringComparison.Ordinal);
            Assert.DoesNotContain(Secret, Tool.Run("doctor").Output, StringComparison.Ordinal);
        }
        finally
        {
            Environment.SetEnvironmentVariable(StoreChoice.KeyVariable, before);
        }
    }
}
