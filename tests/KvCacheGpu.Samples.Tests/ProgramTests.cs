using System.Diagnostics;
using System.Net;
using System.Net.Http.Json;
using Xunit.Abstractions;

namespace KvCacheGpu.Samples.Tests;

/// <summary>The short samples run as their readers would run them, and say what they are to say.</summary>
public sealed class ProgramTests(ITestOutputHelper output) : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-sample-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void The_quick_start_answers() => Assert.Equal(["cat sat on mat .", "12 tokens on cpu", "7 tokens, then again 'sat'"], Said("QuickStart"));

    [Fact]
    public void The_budget_is_kept_and_the_fact_is_known()
    {
        string[] said = Said("Budget");
        output.WriteLine(said[0]);
        Assert.Equal(["8130 tokens, within the budget: True", "What follows 7? 13"], said[1..]);
    }

    [Fact]
    public void Prefixes_are_shared_within_a_tenant() =>
        Assert.Equal(["first of acme: 0 tokens known", "second of acme: 160 tokens known", "first of globex: 0 tokens known", "forks: 161 and 162 tokens"], Said("PrefixSharing"));

    [Fact]
    public void A_conversation_is_loaded_by_the_next_run()
    {
        string folder = Path.Combine(_folder, "store");
        Assert.Equal(["a new conversation", "saved 3 tokens"], Said("SavedChat", folder));
        Assert.Equal(["loaded 3 tokens; after 12 comes 13", "saved 4 tokens"], Said("SavedChat", folder));
    }

    [Fact]
    public void Many_are_served_at_once()
    {
        string[] said = Said("ServedChat");
        Assert.Equal(["In the beginning", "And he said unto them", "Blessed are they"], said[..3].Select((line, i) => line[..new[] { 16, 21, 16 }[i]]));
        Assert.All(said[..3], line => Assert.True(line.Length > 40, line));
        Assert.Equal("3 requests, 48 tokens, fewer steps than tokens: True", said[3]);
    }

    /// <summary>KVCACHE_TEST_REDIS names the server, as <c>.ci/redis start DIR</c> prints it.</summary>
    [Fact]
    public void Two_caches_share_a_server()
    {
        if (Environment.GetEnvironmentVariable("KVCACHE_TEST_REDIS") is not { Length: > 0 } address)
        {
            output.WriteLine("skipped: KVCACHE_TEST_REDIS names no server");
            return;
        }

        Assert.Equal(["first: 0 of 180 tokens came from the server", "second: 160 of 180 tokens came from the server"], Said("RedisTier", address));
    }

    [Fact]
    public async Task A_web_service_keeps_conversations_over_a_restart_and_tells_health_and_metrics()
    {
        string[] arguments = ["--urls", "http://127.0.0.1:0", "--folder", Path.Combine(_folder, "sessions")];
        string said = await ServeAsync("AspNetChat", arguments, async client =>
        {
            Assert.Equal("Healthy", await client.GetStringAsync("/health"));
            Assert.Equal("""{"next":6,"length":4}""", await AskAsync(client, "/acme/friday", 5, 6, 7, 5));
            Assert.Equal("""{"next":7,"length":1}""", await AskAsync(client, "/globex/friday", 7));
            Assert.Equal(HttpStatusCode.BadRequest, (await client.PostAsJsonAsync("/acme/friday", new[] { 1000 })).StatusCode);
        });
        Assert.Contains("kvcache.tokens.appended", said, StringComparison.Ordinal);
        Assert.Contains("kvcache.name: chat", said, StringComparison.Ordinal);
        Assert.Contains("2 saved, 0 not", said, StringComparison.Ordinal);
        await ServeAsync("AspNetChat", arguments, async client => Assert.Equal("""{"next":7,"length":5}""", await AskAsync(client, "/acme/friday", 6)));
    }

    [Fact]
    public async Task A_server_chats_as_those_of_OpenAI_do()
    {
        string model = Path.Combine(Packages.Root, "tools", "demo-model");
        await ServeAsync("ChatServer", ["--urls", "http://127.0.0.1:0", "--model", model], async client =>
        {
            HttpResponseMessage answer = await client.PostAsJsonAsync(
                "/v1/chat/completions", new { model = "demo-model", temperature = 0, max_tokens = 4, messages = new[] { new { role = "user", content = "In the beginning" } } });
            Assert.Contains("\"finish_reason\":\"length\"", await answer.Content.ReadAsStringAsync(), StringComparison.Ordinal);
            Assert.Contains("KvCacheGpu live", await client.GetStringAsync("/"), StringComparison.Ordinal);
        });
    }

    private static async Task<string> AskAsync(HttpClient client, string path, params int[] tokens) => await (await client.PostAsJsonAsync(path, tokens)).Content.ReadAsStringAsync();

    // Starts the service, asks it, ends it as a machine would, and returns what it has said.
    private static async Task<string> ServeAsync(string sample, string[] arguments, Func<HttpClient, Task> ask)
    {
        using Process service = Process.Start(Start(sample, arguments))!;
        try
        {
            Task<string> error = service.StandardError.ReadToEndAsync();
            string said = string.Empty;
            const string listens = "Now listening on: ";
            string? address = null;
            while (address is null && await service.StandardOutput.ReadLineAsync() is { } line)
            {
                said += $"{line}\n";
                int at = line.IndexOf(listens, StringComparison.Ordinal);
                address = at < 0 ? null : line[(at + listens.Length)..];
            }

            Assert.True(address is not null, $"{said}{(address is null ? await error : string.Empty)}");
            using var client = new HttpClient { BaseAddress = new Uri(address!) };
            await ask(client);
            using (Process end = Process.Start("kill", ["-TERM", $"{service.Id}"]))
            {
                await end.WaitForExitAsync();
            }

            said += await service.StandardOutput.ReadToEndAsync();
            await service.WaitForExitAsync();
            Assert.Equal((0, string.Empty), (service.ExitCode, await error));
            return said;
        }
        finally
        {
            if (!service.HasExited)
            {
                service.Kill();
            }
        }
    }

    private static string[] Said(string sample, params string[] arguments)
    {
        using Process process = Process.Start(Start(sample, arguments))!;
        Task<string> error = process.StandardError.ReadToEndAsync();
        string said = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Assert.Equal((0, string.Empty), (process.ExitCode, error.Result));
        return said.Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }

    private static ProcessStartInfo Start(string sample, string[] arguments) =>
        new(Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet", ["exec", Path.Combine(AppContext.BaseDirectory, $"KvCacheGpu.{sample}.dll"), .. arguments])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
}
