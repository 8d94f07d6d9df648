using System.Text.Json;

namespace KvCacheGpu.Cli.Tests;

/// <summary>Runs that leave snapshots and go on from them, and the commands over a store.</summary>
public sealed class SnapshotCommandTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-store-").FullName;

    private string Store => Path.Combine(_folder, "store");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("f16")]
    [InlineData("t4")]
    public async Task Generation_goes_on_bit_for_bit_after_a_restart_of_the_process(string format)
    {
        string[] all = ["run", "--prompt", "In the beginning", "--device", "cpu", "--key-format", format, "--json"];
        int[] whole = Tool.Json([.. all[..^1], "--max-new-tokens", "24"]).Ints("tokens");
        (int exit, string first, _) = await ProcessTests.Start([.. all, "--max-new-tokens", "10", "--save", "a", "--store", Store]);
        Assert.Equal(0, exit);
        (exit, string second, string error) = await ProcessTests.Start("run", "--device", "cpu", "--key-format", format, "--json", "--max-new-tokens", "14", "--load", "a", "--store", Store);
        Assert.Equal((0, string.Empty), (exit, error));
        JsonElement after = JsonDocument.Parse(second).RootElement;
        Assert.True(after.GetProperty("restored").GetProperty("exact").GetBoolean());
        int[] both = [.. JsonDocument.Parse(first).RootElement.Ints("tokens"), .. after.Ints("tokens")];
        Assert.Equal(whole, both);
    }

    [Fact]
    public void A_store_is_listed_inspected_verified_backed_up_restored_and_cleared()
    {
        Tool.Json("run", "--prompt", "In the beginning", "--max-new-tokens", "4", "--device", "cpu", "--save", "a", "--store", Store);
        Assert.Equal("a", Tool.Json("snapshot", "list", "--store", Store)[0].Text("name"));
        JsonElement details = Tool.Json("snapshot", "inspect", "a", "--store", Store);
        Assert.Equal(1, details.GetProperty("sequence_list").GetArrayLength());
        Assert.True(Tool.Json("snapshot", "verify", "a", "--store", Store)[0].GetProperty("whole").GetBoolean());
        Assert.Equal(1, Tool.Json("stats", "--store", Store).Long("snapshots"));
        Assert.True(Tool.Json("health", "--store", Store).GetProperty("healthy").GetBoolean());
        Assert.Equal(1, Tool.Json("monitor", "--count", "1", "--store", Store).Long("snapshots"));
        string backup = Path.Combine(_folder, "backup");
        Tool.Json("snapshot", "backup", "--path", backup, "--store", Store);
        Assert.Equal(0, Tool.Json("cleanup", "--max-age", "1h", "--store", Store).GetProperty("deleted").GetArrayLength());
        Assert.Equal(1, Tool.Json("clear-cache", "--store", Store).GetProperty("deleted").GetArrayLength());
        Tool.Refused(2, "E002", "snapshot", "inspect", "a", "--store", Store);
        Tool.Json("snapshot", "restore", "--path", backup, "--store", Store);
        Tool.Json("snapshot", "delete", "a", "--store", Store);
        Assert.Equal(0, Tool.Json("stats", "--store", Store).Long("snapshots"));
    }

    [Fact]
    public void A_bad_snapshot_is_told_of_with_exit_1()
    {
        Tool.Json("run", "--prompt", "In the beginning", "--max-new-tokens", "4", "--device", "cpu", "--save", "a", "--store", Store);
        string blocks = Directory.GetFiles(Store, "*.BLOCKS-*").Single();
        byte[] bytes = File.ReadAllBytes(blocks);
        bytes[bytes.Length / 2] ^= 1;
        File.WriteAllBytes(blocks, bytes);
        Assert.Equal(1, Tool.Run("health", "--store", Store).Exit);
        Assert.Equal(1, Tool.Run("snapshot", "verify", "a", "--store", Store).Exit);
        Tool.Refused(1, "E004", "run", "--device", "cpu", "--load", "a", "--store", Store);
    }

    [Fact]
    public void Options_that_do_not_go_together_are_usage_errors()
    {
        Tool.Refused(2, "E003", "run", "--save", "a");
        Tool.Refused(2, "E003", "run", "--store", Store);
        Tool.Refused(2, "E003", "run", "--save", "a", "--store", Store, "--prompt", "x", "--prompt", "y");
        Tool.Refused(2, "E002", "run", "--load", "a", "--store", Store);
        Tool.Refused(2, "E003", "cleanup", "--store", Store);
        Tool.Refused(2, "E003", "stats");
    }
}
