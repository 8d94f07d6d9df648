using System.Text.Json;

namespace KvCacheGpu.Cli.Tests;

/// <summary>config migrate, backup, backups, restore; migrate, rollback: through the tool's entry.</summary>
public sealed class VersionTests : IDisposable
{
    private const string Old = "# mine\nKV_CACHE_SIZE=4096\nKV_CACHE_STRATEGY=lru\n", OldFile = "{\n  \"kv_cache_size\": 512\n}\n";

    private readonly string _root = Directory.CreateTempSubdirectory("kvcache-cli-").FullName;

    public VersionTests()
    {
        Directory.CreateDirectory(Path.Combine(_root, "config"));
        File.WriteAllText(Env, Old);
        File.WriteAllText(Config, OldFile);
    }

    private string Env => Path.Combine(_root, ".env");

    private string Config => Path.Combine(_root, "config", "kv_cache.json");

    public void Dispose() => Directory.Delete(_root, recursive: true);

    [Fact]
    public void A_dry_run_prints_the_diff_and_changes_nothing()
    {
        Tool tool = Tool.Run(At("config", "migrate", "--dry-run"));
        Assert.Equal(0, tool.Exit);
        Assert.Contains("-KV_CACHE_SIZE=4096\n", tool.Output, StringComparison.Ordinal);
        Assert.Contains("+KV_CACHE_MAX_TOKENS=4096\n", tool.Output, StringComparison.Ordinal);
        Assert.Contains("+++ b/config/kv_cache.json\n", tool.Output, StringComparison.Ordinal);
        Assert.Contains("lossy compression is on", tool.Error, StringComparison.Ordinal);
        Assert.Equal((Old, OldFile), (File.ReadAllText(Env), File.ReadAllText(Config)));
        Assert.False(Directory.Exists(Path.Combine(_root, ".kvcache")));
    }

    [Fact]
    public void Lossless_warns_of_nothing_and_twice_is_once()
    {
        Assert.Equal(string.Empty, Tool.Run(At("config", "migrate", "--lossless")).Error);
        string once = File.ReadAllText(Config);
        Assert.Contains("\"use_compression\": false", once, StringComparison.Ordinal);
        Assert.Contains("nothing to migrate", Tool.Run(At("config", "migrate")).Output, StringComparison.Ordinal);
        Assert.Equal(once, File.ReadAllText(Config));
    }

    [Fact]
    public void Backups_are_listed_newest_first_and_restored_by_id_or_by_number()
    {
        Tool.Run(At("config", "backup"));
        Tool.Run(At("config", "migrate"));
        Tool.Run(At("config", "backup"));
        JsonElement[] backups = [.. Tool.Json(At("config", "backups")).EnumerateArray()];
        Assert.Equal(["2.1", "1.x"], backups.Select(one => one.GetProperty("version").GetString()));
        Assert.True(backups[0].GetProperty("created").GetDateTimeOffset() > backups[1].GetProperty("created").GetDateTimeOffset());
        Assert.Equal(["config/kv_cache.json", ".env"], backups[0].GetProperty("files").EnumerateArray().Select(file => file.GetString()));
        Assert.Equal(["created", "files", "id", "version"], backups[0].EnumerateObject().Select(one => one.Name).Order());

        Tool asked = Tool.Answering("2\n", At("config", "restore"));
        Assert.Equal((0, string.Empty), (asked.Exit, asked.Error));
        Assert.Contains($"2. {backups[1].GetProperty("id")}", asked.Output, StringComparison.Ordinal);
        Assert.Equal((Old, OldFile), (File.ReadAllText(Env), File.ReadAllText(Config)));
        Assert.Equal(0, Tool.Run(At("config", "restore", backups[0].GetProperty("id").GetString()!)).Exit);
        Assert.Contains("KV_CACHE_MAX_TOKENS", File.ReadAllText(Env), StringComparison.Ordinal);

        foreach (string answer in new[] { "", "0", "3", "-1", "x" })
        {
            Tool wrong = Tool.Answering(answer, At("config", "restore"));
            Assert.Equal(2, wrong.Exit);
            Assert.StartsWith("E003: number of a backup", wrong.Error, StringComparison.Ordinal);
        }

        Tool.Refused(2, "E002", At("config", "restore", "nothing"));
        Tool.Refused(2, "E002", At("config", "restore", "../../x"));
    }

    [Fact]
    public void An_altered_backup_is_E004_and_exit_1()
    {
        string id = Tool.Run(At("config", "backup")).Output.Split(' ')[0];
        string file = Path.Combine(_root, ".kvcache", "backups", id + ".backup");
        File.WriteAllText(file, File.ReadAllText(file).Replace(".env", ".enw", StringComparison.Ordinal));
        Tool.Refused(1, "E004", At("config", "restore", id));
        Assert.Contains("damaged", Tool.Run(At("config", "backups")).Output, StringComparison.Ordinal);
    }

    [Fact]
    public void The_upgrade_prints_its_checklist_and_its_rollback_gives_the_bytes_back()
    {
        Tool tool = Tool.Run(At("migrate"));
        Assert.Equal(0, tool.Exit);
        string[] lines = tool.Output.Split('\n');
        Assert.Equal(["Before", "Migration", "After"], lines.Where(line => line is "Before" or "Migration" or "After"));
        Assert.Contains("  [x] Migrate the configuration: config/kv_cache.json from 1.x to 2.1", lines);
        string run = tool.Output[(tool.Output.LastIndexOf("rollback ", StringComparison.Ordinal) + 9)..].Split(' ')[0];
        Assert.Contains("nothing to migrate", Tool.Run(At("migrate")).Output, StringComparison.Ordinal);
        Assert.Equal(0, Tool.Run(At("rollback", run)).Exit);
        Assert.Equal((Old, OldFile), (File.ReadAllText(Env), File.ReadAllText(Config)));
        Tool.Refused(2, "E002", At("rollback"));
        Tool.Refused(2, "E002", At("rollback", "nothing"));
    }

    [Theory]
    [InlineData("{\"kv_cache_size\": 5,}}", "E003: config/kv_cache.json:1")]
    [InlineData("{\"version\": 3, \"kv_cache_size\": 5}", "E007: config/kv_cache.json")]
    [InlineData("{\n\"kv_cache_size\": \"many\"}", "E003: config/kv_cache.json:2: kv_cache_size")]
    public void What_is_malformed_or_newer_is_one_line_exit_2_and_untouched(string text, string line)
    {
        File.WriteAllText(Config, text);
        foreach (string[] command in new[] { ["config", "migrate"], new[] { "migrate" }, ["config", "migrate", "--dry-run"] })
        {
            Assert.StartsWith(line, Tool.Refused(2, line[..4], At(command)), StringComparison.Ordinal);
            Assert.Equal((Old, text), (File.ReadAllText(Env), File.ReadAllText(Config)));
        }
    }

    [Fact]
    public void What_is_not_there_is_E002()
    {
        Tool.Refused(2, "E002", "config", "migrate", "--file", Path.Combine(_root, "none.json"));
        Tool.Refused(2, "E002", "migrate", "--env", Path.Combine(_root, "none.env"));
        Tool.Refused(2, "E002", "config", "backups", "--env", Path.Combine(_root, "none", ".env"));
        Tool.Refused(2, "E003", "config", "migrate", "--file", Env);
    }

    private string[] At(params string[] command) => [.. command, "--file", Config, "--env", Env];
}
