using System.Text.Json;

namespace KvCacheGpu.Cli.Tests;

/// <summary>Processes that share a server.</summary>
public sealed class SharedTierTests
{
    [RedisFact]
    public async Task What_one_process_computed_the_others_fetch_bit_for_bit()
    {
        string address = Environment.GetEnvironmentVariable(RedisFactAttribute.Variable)!;

        // Tokens that no other test and no earlier run has.
        int first = Random.Shared.Next(10_000);
        string prompt = string.Join(',', Enumerable.Range(0, 200).Select(i => $"{20 + (((first * 31) + (i * i * 7)) % 90)}"));
        string[] args = ["run", "--prompt-tokens", prompt, "--max-new-tokens", "16", "--device", "cpu", "--remote", address, "--json"];
        JsonElement alone = await Run(args);
        Assert.Equal(0, alone.Long("reused_tokens"));
        Assert.True(alone.GetProperty("tiers")[0].Long("written") >= 3, alone.ToString());

        JsonElement[] others = await Task.WhenAll(Run(args), Run(args));
        Assert.All(others, other =>
        {
            Assert.Equal(192, other.Long("reused_tokens"));
            Assert.Equal(3, other.GetProperty("tiers")[0].Long("read"));
            Assert.Equal(alone.Ints("tokens"), other.Ints("tokens"));
        });
    }

    private static async Task<JsonElement> Run(string[] args)
    {
        (int exit, string output, string error) = await ProcessTests.Start(args);
        Assert.True(exit == 0, error);
        return JsonDocument.Parse(output).RootElement;
    }
}

/// <summary>A fact about the Redis that KVCACHE_TEST_REDIS names; skipped, with that reason, if it names none.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class RedisFactAttribute : FactAttribute
{
    public const string Variable = "KVCACHE_TEST_REDIS";

    public RedisFactAttribute() =>
        Skip = string.IsNullOrEmpty(Environment.GetEnvironmentVariable(Variable)) ? $"{Variable} names no server" : null;
}
