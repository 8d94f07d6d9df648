using System.Text.Json;

namespace KvCacheGpu.Cli.Tests;

/// <summary>Tiers below a cache, as options of commands.</summary>
public sealed class TierTests : IDisposable
{
    // Longer than two pages of 64 tokens and what a rollback reaches.
    private static readonly string _prompt = string.Join(',', Enumerable.Range(0, 200).Select(i => $"{20 + (i * 7 % 90)}"));

    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-tier-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("f16")]
    [InlineData("i8")]
    public void A_second_run_fetches_what_the_first_left_on_disk(string format)
    {
        string[] args = ["run", "--prompt-tokens", _prompt, "--max-new-tokens", "12", "--device", "cpu", "--key-format", format, "--value-format", format];
        string[] tiered = [.. args, "--disk-tier", Path.Combine(_folder, format), "--disk-budget", "64MiB"];
        JsonElement first = Tool.Json(tiered);
        Assert.Equal(0, first.Long("reused_tokens"));
        JsonElement disk = Schema.Check(
            Assert.Single(first.GetProperty("tiers").EnumerateArray()),
            "name string, bytes_in_use number?, bytes_limit number?, read number, missed number, written number, errors number, last_error string?");
        Assert.Equal(("disk", 64L << 20, 0), (disk.Text("name"), disk.Long("bytes_limit"), disk.Long("errors")));
        Assert.True(disk.Long("written") >= 3);

        JsonElement second = Tool.Json(tiered);
        Assert.Equal(192, second.Long("reused_tokens"));
        Assert.Equal(3, second.GetProperty("tiers")[0].Long("read"));
        if (format == "f16")
        {
            int[] plain = Tool.Json(args).Ints("tokens");
            Assert.Equal(plain, first.Ints("tokens"));
            Assert.Equal(plain, second.Ints("tokens"));
        }
    }

    [Fact]
    public void Prompts_together_reuse_what_they_share_and_no_more()
    {
        string shared = string.Concat(Enumerable.Repeat("In the beginning God created the heaven and the earth. ", 12));
        string[] args = ["run", "--prompt", $"{shared}And", "--prompt", $"{shared}But", "--max-new-tokens", "8", "--device", "cpu", "--disk-tier", _folder];
        JsonElement first = Tool.Json(args);
        JsonElement second = Tool.Json(args);
        Assert.True(second.Long("reused_tokens") >= 64);
        for (int i = 0; i < 2; i++)
        {
            Assert.Equal(first.GetProperty("runs")[i].Ints("tokens"), second.GetProperty("runs")[i].Ints("tokens"));
        }
    }

    [Fact]
    public void A_server_that_is_not_there_is_a_miss_and_the_run_goes_on()
    {
        JsonElement run = Tool.Json("run", "--prompt-tokens", _prompt, "--max-new-tokens", "4", "--device", "cpu", "--remote", "redis://127.0.0.1:1");
        Assert.Equal(4, run.Ints("tokens").Length);
        Assert.Equal("redis", run.GetProperty("tiers")[0].Text("name"));
        Assert.True(run.GetProperty("tiers")[0].Long("errors") > 0);
    }

    [Fact]
    public void A_configuration_that_shares_a_tier_opens_it()
    {
        string file = Path.Combine(_folder, "kv.yaml");
        File.WriteAllText(file, "kv_cache:\n  enable_distributed: true\n  distributed_backend: redis\n");
        JsonElement run = Tool.Json("run", "--prompt-tokens", _prompt, "--max-new-tokens", "2", "--device", "cpu", "--config", file);
        Assert.Equal("redis", Assert.Single(run.GetProperty("tiers").EnumerateArray()).Text("name"));
    }

    [Fact]
    public void Doctor_and_stats_tell_of_the_tiers_that_are_named()
    {
        JsonElement doctor = Tool.Json("doctor", "--host-budget", "1MiB", "--disk-tier", _folder, "--remote", "redis://127.0.0.1:1");
        Assert.Equal(
            [("host", true), ("disk", true), ("redis", false)],
            doctor.GetProperty("tiers").EnumerateArray().Select(tier => (tier.Text("name"), tier.GetProperty("usable").GetBoolean())));
        Assert.False(Tool.Json("doctor").TryGetProperty("tiers", out _));
        Directory.CreateDirectory(Path.Combine(_folder, "store"));
        Assert.Equal("disk", Tool.Json("stats", "--store", Path.Combine(_folder, "store"), "--disk-tier", _folder).GetProperty("tiers")[0].Text("name"));
    }

    [Fact]
    public void A_plan_says_how_many_tokens_tiers_hold()
    {
        JsonElement plan = Tool.Json("plan", "--geometry", "4,2,128", "--context", "1000", "--host-budget", "64MiB", "--disk-budget", "1GiB");
        JsonElement f16 = plan.GetProperty("formats").EnumerateArray().First(f => f.Text("key_format") == "f16" && f.Text("value_format") == "f16");

        // A page: 64 tokens of 2 * 128 elements, and a digest of 2 * 128. A block: 8 of these, 8 bytes, zeros, a hash.
        long block = (8 * ((64 * 512) + 512)) + 16 + 16;
        Assert.Equal((64L << 20) / block * 64, f16.Long("host_tokens"));
        Assert.Equal((1L << 30) / block * 64, f16.Long("disk_tokens"));
        Assert.Equal(64L << 20, plan.Long("host_budget_bytes"));
        JsonElement offload = Tool.Json("plan", "--geometry", "4,2,128", "--context", "1000", "--offload", "1GiB");
        foreach (JsonElement f in offload.GetProperty("formats").EnumerateArray())
        {
            // As many as on the device, less what the digests take a second time.
            double most = (1L << 30) / f.GetProperty("bytes_per_token").GetDouble();
            Assert.InRange(f.Long("offload_tokens"), most * .7, most);
            Assert.False(f.TryGetProperty("host_tokens", out _));
        }

        Assert.Contains("offloaded", Tool.Run("plan", "--geometry", "4,2,128", "--context", "1000", "--offload", "1GiB").Output, StringComparison.Ordinal);
        Assert.Contains("host memory", Tool.Run("plan", "--geometry", "4,2,128", "--context", "1000", "--host-budget", "64MiB").Output, StringComparison.Ordinal);
    }

    /// <summary>A budget that holds a part of the text, and host memory for the rest: the same tokens as without a budget.</summary>
    [Theory]
    [InlineData("f16", "3MB")]
    [InlineData("t4", "2500KB")]
    public void What_a_policy_lets_go_is_read_from_host_memory(string format, string budget)
    {
        string text = string.Join(' ', Enumerable.Range(1, 160).Select(i => $"And the servant said unto the king of the {i} cities, Behold."));
        string[] args = ["run", "--prompt", text, "--max-new-tokens", "16", "--device", "cpu", "--key-format", format];
        JsonElement whole = Tool.Json(args);
        string[] tight = [.. args, "--memory-budget", budget, "--policy", "lru", "--offload", "64MiB"];
        JsonElement offloaded = Tool.Json(tight);
        Assert.Equal(whole.GetProperty("tokens").ToString(), offloaded.GetProperty("tokens").ToString());
        JsonElement pages = offloaded.GetProperty("offload");
        Assert.True(pages.GetProperty("pages").GetInt64() > 50 && pages.GetProperty("dropped").GetInt64() == 0, $"{pages}");
        Assert.Equal(0, offloaded.GetProperty("cache").GetProperty("evicted_tokens").GetDouble());
        Assert.Contains("pages in host memory", Tool.Run(tight).Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--offload", "1MiB")]
    [InlineData("--host-budget", "0")]
    [InlineData("--host-budget", "25%")]
    [InlineData("--disk-budget", "1GiB")]
    [InlineData("--disk-tier", "")]
    [InlineData("--remote", "http://somewhere")]
    public void What_no_tier_can_be_made_of_is_a_usage_error(string option, string value)
    {
        Tool result = Tool.Run("run", "--prompt", "a", option, value);
        Assert.Equal(2, result.Exit);
        Assert.Contains(option.TrimStart('-').Split('-')[0], result.Error, StringComparison.Ordinal);
    }
}
