using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using static KvCacheGpu.Serving.AspNetCore.Tests.TestServer;

namespace KvCacheGpu.Serving.AspNetCore.Tests;

/// <summary>Clients that are slow, go away, or ask too much, and a server that stops.</summary>
public class LimitTests
{
    private const string Path = "v1/completions";

    [Fact]
    public async Task A_body_that_does_not_come_is_given_up()
    {
        await using TestServer server = await StartAsync(options => options.BodyTimeout = TimeSpan.FromMilliseconds(300));
        using TcpClient client = new();
        await client.ConnectAsync(server.Address.Host, server.Address.Port);
        await using NetworkStream stream = client.GetStream();
        await stream.WriteAsync("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"model\""u8.ToArray());
        using StreamReader reader = new(stream);
        Assert.Equal("HTTP/1.1 408 Request Timeout", await reader.ReadLineAsync());

        // Not Kestrel's own limit, which would end it later.
        Assert.Contains("\"body_timeout\"", await reader.ReadToEndAsync(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_client_that_goes_ends_its_answer()
    {
        await using TestServer server = await StartAsync();
        server.Gate.Delay = TimeSpan.FromMilliseconds(20);
        foreach (bool isStream in new[] { true, false })
        {
            using CancellationTokenSource gone = new();
            using HttpClient client = server.Client();
            using HttpRequestMessage request = new(HttpMethod.Post, Path) { Content = Json(Completion("And", 4000, new { stream = isStream })) };
            Task<HttpResponseMessage> answer = client.SendAsync(request, isStream ? HttpCompletionOption.ResponseHeadersRead : HttpCompletionOption.ResponseContentRead, gone.Token);
            await Until(async () => (await server.Scheduler.GetStatusAsync()).Answers is [{ NewTokens: > 2 }]);
            if (isStream)
            {
                (await answer).Dispose();
            }

            await gone.CancelAsync();
            await Until(async () => (await server.Scheduler.GetStatusAsync()).Answers.Count == 0);
        }

        KvServingStatus status = await server.Scheduler.GetStatusAsync();
        Assert.True(status.NewTokens < 4000, $"{status.NewTokens} tokens");
        Assert.Equal(2, status.Ended);
    }

    [Fact]
    public async Task Too_many_requests_are_told_when_to_come_again()
    {
        await using TestServer server = await StartAsync(options => (options.RequestsPerMinute, options.ApiKeys) = (1, Keys()));
        await server.PostAsync(Path, Completion("And", 1), key: "key-of-a");
        using HttpClient client = server.Client("key-of-a");
        using HttpResponseMessage answer = await client.PostAsync(new Uri(Path, UriKind.Relative), Json(Completion("And", 1)));
        Assert.Equal((HttpStatusCode)429, answer.StatusCode);
        Assert.InRange(answer.Headers.RetryAfter!.Delta!.Value.TotalSeconds, 1, 60);
        Assert.Equal("rate_limit_exceeded", await CodeOf(answer));

        // Another tenant has requests of its own.
        await server.PostAsync(Path, Completion("And", 1), key: "key-of-b");
    }

    [Fact]
    public async Task A_full_queue_and_a_long_prompt_are_refused()
    {
        await using TestServer server = await StartAsync(options => options.MaxPromptTokens = 50, schedule: options => options with { MaxConcurrency = 1, MaxWaiting = 1 });
        server.Gate.Close();
        Task<JsonElement> runs = server.PostAsync(Path, Completion("And", 5));
        await Until(() => Task.FromResult(server.Gate.IsInside));
        Task<JsonElement> waits = server.PostAsync(Path, Completion("And", 5));
        await Until(() => Task.FromResult(server.Scheduler.Waiting == 1));
        JsonElement full = await server.PostAsync(Path, Completion("And", 1), (HttpStatusCode)429);
        Assert.Equal("queue_full", full.GetProperty("error").GetProperty("code").GetString());
        server.Gate.Open();
        await Task.WhenAll(runs, waits);
        JsonElement tooLong = await server.PostAsync(Path, Completion(Enumerable.Repeat(5, 51).ToArray(), 1), HttpStatusCode.BadRequest);
        Assert.Equal("context_length_exceeded", tooLong.GetProperty("error").GetProperty("code").GetString());
    }

    [Fact]
    public async Task An_answer_that_is_late_is_told_so_by_a_status_or_at_the_end_of_its_stream()
    {
        await using TestServer server = await StartAsync(options => options.Deadline = TimeSpan.FromSeconds(4));
        server.Gate.Delay = TimeSpan.FromMilliseconds(50);
        Task<JsonElement> whole = server.PostAsync(Path, Completion("And", 4000), HttpStatusCode.GatewayTimeout);
        using HttpClient client = server.Client();
        using HttpResponseMessage answer = await client.PostAsync(new Uri(Path, UriKind.Relative), Json(Completion("And", 4000, new { stream = true })));
        string[] events = (await answer.Content.ReadAsStringAsync()).Split("\n\n", StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal("data: [DONE]", events[^1]);
        Assert.Contains("\"deadline_exceeded\"", events[^2], StringComparison.Ordinal);
        Assert.Equal("deadline_exceeded", (await whole).GetProperty("error").GetProperty("code").GetString());
    }

    [Fact]
    public async Task A_server_that_stops_ends_what_it_has_begun_and_refuses_more()
    {
        await using TestServer server = await StartAsync();
        server.Gate.Delay = TimeSpan.FromMilliseconds(20);
        Task<JsonElement> begun = server.PostAsync(Path, Completion("And", 40));
        await Until(async () => (await server.Scheduler.GetStatusAsync()).Answers is [{ NewTokens: > 2 }]);
        Task stop = server.App.StopAsync();
        using HttpClient client = server.Client();
        using HttpResponseMessage refused = await client.PostAsync(new Uri(Path, UriKind.Relative), Json(Completion("And", 1)));
        Assert.Equal((HttpStatusCode.ServiceUnavailable, "draining"), (refused.StatusCode, await CodeOf(refused)));
        using HttpResponseMessage health = await client.GetAsync(new Uri("health", UriKind.Relative));
        Assert.Equal(HttpStatusCode.ServiceUnavailable, health.StatusCode);
        Assert.Contains("\"draining\"", await health.Content.ReadAsStringAsync(), StringComparison.Ordinal);
        Assert.Equal(40, (await begun).GetProperty("usage").GetProperty("completion_tokens").GetInt32());
        await stop;
    }

    [Fact]
    public async Task What_a_drain_does_not_wait_for_is_told_so()
    {
        await using TestServer server = await StartAsync(options => options.DrainTime = TimeSpan.FromMilliseconds(200));
        server.Gate.Delay = TimeSpan.FromMilliseconds(20);
        Task<JsonElement> cut = server.PostAsync(Path, Completion("And", 4000), HttpStatusCode.ServiceUnavailable);
        await Until(async () => (await server.Scheduler.GetStatusAsync()).Answers is [{ NewTokens: > 2 }]);
        await server.App.StopAsync();
        Assert.Equal("draining", (await cut).GetProperty("error").GetProperty("code").GetString());
    }

    internal static KvApiKeys Keys() => new(new Dictionary<string, string> { ["key-of-a"] = "a", ["key-of-b"] = "b", ["other-key-of-a"] = "a", ["key-of-admin"] = "admin" });

    internal static StringContent Json(object body) => new(JsonSerializer.Serialize(body), Encoding.UTF8, "application/json");

    internal static async Task<string?> CodeOf(HttpResponseMessage answer)
    {
        using JsonDocument body = JsonDocument.Parse(await answer.Content.ReadAsStringAsync());
        return body.RootElement.GetProperty("error").GetProperty("code").GetString();
    }

    internal static async Task Until(Func<Task<bool>> holds)
    {
        long start = Stopwatch.GetTimestamp();
        while (!await holds())
        {
            Assert.True(Stopwatch.GetElapsedTime(start) < TimeSpan.FromMinutes(2), "it did not come to be");
            await Task.Delay(20);
        }
    }
}
