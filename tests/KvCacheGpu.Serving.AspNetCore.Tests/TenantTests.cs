using System.Net;
using System.Text;
using System.Text.Json;
using static KvCacheGpu.Serving.AspNetCore.Tests.LimitTests;
using static KvCacheGpu.Serving.AspNetCore.Tests.TestServer;

namespace KvCacheGpu.Serving.AspNetCore.Tests;

/// <summary>Tenants know nothing of each other.</summary>
public class TenantTests
{
    [Fact]
    public async Task A_prompt_of_one_is_never_found_by_another()
    {
        await using TestServer server = await StartAsync(options => options.ApiKeys = Keys());
        string prompt = string.Join(' ', Enumerable.Repeat("And it came to pass in those days,", 20));
        Assert.Equal(0, await Cached("key-of-a"));
        Assert.True(await Cached("other-key-of-a") >= 64);
        Assert.Equal(0, await Cached("key-of-b"));
        Assert.True(await Cached("key-of-b") >= 64);
        Assert.Equal(0, await Cached("key-of-admin"));

        async Task<int> Cached(string key) =>
            (await server.PostAsync("v1/chat/completions", Chat(prompt, 1), key: key)).GetProperty("usage").GetProperty("prompt_tokens_details").GetProperty("cached_tokens").GetInt32();
    }

    [Theory]
    [InlineData(null, "missing_api_key")]
    [InlineData("", "missing_api_key")]
    [InlineData("key-of-A", "invalid_api_key")]
    [InlineData("key-of-a2", "invalid_api_key")]
    public async Task Without_a_key_nothing_is_served(string? key, string code)
    {
        await using TestServer server = await StartAsync(options => options.ApiKeys = Keys());
        foreach (string path in new[] { "v1/models", "v1/models/demo-model", "live/events", "v1/foo" })
        {
            using HttpClient client = server.Client(key is { Length: > 0 } ? key : null);
            using HttpResponseMessage answer = await client.GetAsync(new Uri(path, UriKind.Relative));
            Assert.Equal((HttpStatusCode.Unauthorized, code), (answer.StatusCode, await CodeOf(answer)));
            Assert.Equal("Bearer", answer.Headers.WwwAuthenticate.Single().Scheme);
        }

        foreach (string path in new[] { "v1/chat/completions", "v1/completions", "live/budget" })
        {
            JsonElement error = (await server.PostAsync(path, "{}", HttpStatusCode.Unauthorized, key is { Length: > 0 } ? key : null)).GetProperty("error");
            Assert.Equal("authentication_error", error.GetProperty("type").GetString());
        }
    }

    [Fact]
    public async Task The_live_page_shows_ones_own_sequences_and_the_administrator_all()
    {
        await using TestServer server = await StartAsync(options => options.ApiKeys = Keys());
        server.Gate.Delay = TimeSpan.FromMilliseconds(30);
        Task<JsonElement>[] running = [.. new[] { "key-of-a", "key-of-b" }.Select(key => server.PostAsync("v1/completions", Completion("And", 4000), key: key, status: HttpStatusCode.ServiceUnavailable))];
        await Until(async () => (await server.Scheduler.GetStatusAsync()).Answers is [{ NewTokens: > 0 }, { NewTokens: > 0 }]);
        Dictionary<string, long> ids = (await server.Scheduler.GetStatusAsync()).Answers.ToDictionary(one => one.Tenant!, one => one.Id);
        foreach (string tenant in new[] { "a", "b" })
        {
            JsonElement own = await Snapshot($"key-of-{tenant}", $"live/events?id={ids[tenant]}");
            Assert.Equal([tenant], own.GetProperty("answers").EnumerateArray().Select(one => one.GetProperty("tenant").GetString()));
            Assert.Equal(ids[tenant], own.GetProperty("map").GetProperty("id").GetInt64());
            JsonElement others = await Snapshot($"key-of-{tenant}", $"live/events?id={ids[tenant == "a" ? "b" : "a"]}");
            Assert.Equal(JsonValueKind.Null, others.GetProperty("map").ValueKind);
            await server.PostAsync("live/budget", "{\"watermark\":0.5}", HttpStatusCode.Forbidden, $"key-of-{tenant}");
            await server.PostAsync("v1/completions", Completion("And", 1, new { priority = 1 }), HttpStatusCode.Forbidden, $"key-of-{tenant}");
        }

        JsonElement all = await Snapshot("key-of-admin", $"live/events?id={ids["a"]}");
        Assert.Equal(["a", "b"], all.GetProperty("answers").EnumerateArray().Select(one => one.GetProperty("tenant").GetString()).Order());
        Assert.Equal(ids["a"], all.GetProperty("map").GetProperty("id").GetInt64());
        await server.Scheduler.DrainAsync(TimeSpan.Zero);
        await Task.WhenAll(running);

        async Task<JsonElement> Snapshot(string key, string path)
        {
            using HttpClient client = server.Client(key);
            using StreamReader reader = new(await client.GetStreamAsync(new Uri(path, UriKind.Relative)));
            return JsonDocument.Parse((await reader.ReadLineAsync())!["data: ".Length..]).RootElement;
        }
    }

    [Theory]
    [InlineData("{}")]
    [InlineData("[]")]
    [InlineData("{\"secret\":5}")]
    [InlineData("{\"secret\":\"\"}")]
    [InlineData("{\"\":\"a\"}")]
    [InlineData("{\"secret\":\"a\",\"secret\":\"b\"}")]
    [InlineData("secret")]
    public void A_file_that_is_none_of_keys_is_refused_without_telling_it(string text)
    {
        string file = Path.GetTempFileName();
        File.WriteAllText(file, text, Encoding.UTF8);
        InvalidDataException refusal = Assert.Throws<InvalidDataException>(() => KvApiKeys.Load(file));
        Assert.DoesNotContain("secret", refusal.ToString(), StringComparison.Ordinal);
        File.WriteAllText(file, "{\"secret\":\"a\"}");
        Assert.True(KvApiKeys.Load(file).TryFind("secret", out string? tenant));
        Assert.Equal("a", tenant);
        File.Delete(file);
    }
}
