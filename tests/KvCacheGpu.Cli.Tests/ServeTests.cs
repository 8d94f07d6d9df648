using System.Diagnostics;
using System.Net;
using System.Net.Http.Json;
using System.Text.Json;

namespace KvCacheGpu.Cli.Tests;

/// <summary><c>kvcache serve</c> as a process: what it refuses, and that conversations go on after it was killed.</summary>
public sealed class ServeTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-serve-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("E003: --urls: ", "--urls", "http://0.0.0.0:5080")]
    [InlineData("E003: --urls: ", "--urls", "http://*:5080")]
    [InlineData("E003: --urls: ", "--urls", "http://127.0.0.1:5080;http://example.org:5080")]
    [InlineData("E003: --urls: ", "--urls", "https://127.0.0.1:5080")]
    [InlineData("E003: --urls: ", "--urls", "http://127.0.0.1:5080/path")]
    [InlineData("E003: --urls: ", "--urls", "5080")]
    [InlineData("E003: --urls: ", "--urls", ";")]
    [InlineData("E002: --api-keys: ", "--api-keys", "/no/such/file")]
    [InlineData("E003: --api-keys: ", "--api-keys", "{}")]
    [InlineData("E003: --offload: ", "--offload", "1MiB")]
    [InlineData("E003: --max-concurrency: ", "--max-concurrency", "0")]
    [InlineData("E003: --max-concurrency: ", "--max-concurrency", "1000")]
    [InlineData("E003: --drain: ", "--drain", "-1")]
    public void Wrong_usage_is_refused_before_anything_listens(string begin, params string[] args)
    {
        if (args[1] == "{}")
        {
            args[1] = Path.Combine(_folder, "keys.json");
            File.WriteAllText(args[1], "{}");
        }

        Assert.StartsWith(begin, Tool.Refused(2, begin[..4], ["serve", .. args]), StringComparison.Ordinal);
    }

    [Fact]
    public void An_address_that_this_machine_has_not_or_that_is_in_use_is_an_error_in_one_line()
    {
        Tool.Refused(1, "E005", "serve", "--urls", "http://192.0.2.1:5080", "--allow-anonymous");
        using System.Net.Sockets.TcpListener other = new(IPAddress.Loopback, 0);
        other.Start();
        Tool.Refused(1, "E005", "serve", "--urls", $"http://{other.LocalEndpoint}");
    }

    [Fact]
    public async Task A_conversation_goes_on_after_the_server_was_killed_under_load()
    {
        string prompt = string.Join(' ', Enumerable.Repeat("And it came to pass in those days, that there went out a decree.", 25));
        (string Role, string Content)[] first = [("user", prompt)];
        (string, string)[] second;
        (string Text, int Cached) expected;
        using (Served whole = await Served.StartAsync("--disk-tier", Path.Combine(_folder, "whole")))
        {
            string answer = (await whole.ChatAsync(first, 80)).Text;
            second = [.. first, ("assistant", answer), ("user", "And then?")];
            expected = await whole.ChatAsync(second, 30);
            Assert.True(expected.Cached > 0);
        }

        string disk = Path.Combine(_folder, "killed");
        using (Served killed = await Served.StartAsync("--disk-tier", disk))
        {
            Assert.Equal(second[1].Item2, (await killed.ChatAsync(first, 80)).Text);
            Task[] load = [.. Enumerable.Range(0, 6).Select(i => killed.ChatAsync([("user", $"{i} {prompt}")], 2000))];

            await killed.UntilRunAsync(load.Length);
            killed.Kill();
            await Assert.ThrowsAnyAsync<HttpRequestException>(() => Task.WhenAll(load));
        }

        using Served again = await Served.StartAsync("--disk-tier", disk);
        (string text, int cached) = await again.ChatAsync(second, 30);
        Assert.Equal(expected.Text, text);
        Assert.True(cached >= 64, $"{cached} tokens came from the disk");
        Assert.Equal(0, await again.StopAsync());
    }

    [Fact]
    public async Task A_server_that_is_told_to_stop_ends_its_answers_first()
    {
        using Served server = await Served.StartAsync("--drain", "60", "--api-keys", Keys());
        Task<(string Text, int Cached)> running = server.ChatAsync([("user", "In the beginning")], 400);
        await server.UntilRunAsync(1);
        Task<int> stop = server.StopAsync();
        Assert.NotEmpty((await running).Text);
        Assert.Equal(0, await stop);
        Assert.DoesNotContain("secret", server.Errors, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("shared-prefix", 1, true, "--clients", "3")]
    [InlineData("multi-turn", 4, true, "--clients", "3")]
    [InlineData("long", 1, false, "--clients", "3")]
    [InlineData("shared-prefix", 1, true, "--rate", "50")]
    public async Task A_load_is_answered_and_measured(string mix, int turns, bool isReused, string load, string number)
    {
        using Served server = await Served.StartAsync("--api-keys", Keys());
        JsonElement report = Tool.Json(
            "bench", "serve", "--url", $"{server.Address}", "--api-key", "secret", "--mix", mix, load, number, "--conversations", "6", "--warm-up", "2", "--words", "600");
        Assert.Equal(("demo-model", 6 * turns, 0), (report.GetProperty("model").GetString(), report.GetProperty("requests").GetInt32(), report.GetProperty("errors").EnumerateObject().Count()));
        long prompt = report.GetProperty("prompt_tokens").GetInt64();
        long cached = report.GetProperty("cached_tokens").GetInt64();
        Assert.True(prompt > 6 * turns && cached < prompt, $"{report}");
        Assert.True(!isReused || cached > prompt / 8, $"{report}");
        double seconds = report.GetProperty("seconds").GetDouble();
        Assert.Equal(report.GetProperty("new_tokens").GetInt64(), report.GetProperty("tokens_per_second").GetDouble() * seconds, 6);
        Assert.Equal(6 * turns, report.GetProperty("goodput").GetDouble() * seconds, 6);
        foreach (string times in new[] { "first_token", "next_token", "answer" })
        {
            double[] values = [.. report.GetProperty(times).EnumerateObject().Select(one => one.Value.GetDouble())];
            Assert.Equal(values.Order(), values);
            Assert.True(values[^1] > 0 && values[^1] <= seconds + 1, $"{times}: {report}");
        }
    }

    [Fact]
    public async Task A_load_without_a_server_or_with_a_wrong_key_is_refused()
    {
        Tool.Refused(2, "E002", "bench", "serve", "--url", "http://127.0.0.1:1");
        Tool.Refused(2, "E003", "bench", "serve", "--url", "127.0.0.1");
        Tool.Refused(2, "E003", "bench", "serve", "--url", "http://127.0.0.1:1", "--rate", "0");
        Tool.Refused(2, "E003", "bench", "serve", "--url", "http://127.0.0.1:1", "--mix", "short");
        using Served server = await Served.StartAsync("--api-keys", Keys());
        Tool.Refused(2, "E002", "bench", "serve", "--url", $"{server.Address}", "--api-key", "other");
    }

    private string Keys()
    {
        string file = Path.Combine(_folder, "keys.json");
        File.WriteAllText(file, "{\"secret\":\"a\"}");
        return file;
    }

    /// <summary>The tool, serving the demo model in a process of its own.</summary>
    private sealed class Served : IDisposable
    {
        private readonly Process _process;
        private readonly HttpClient _client;
        private readonly System.Text.StringBuilder _errors = new();

        private Served(Process process, Uri address)
        {
            (_process, _client) = (process, new HttpClient { BaseAddress = address, Timeout = TimeSpan.FromMinutes(4) });
            _client.DefaultRequestHeaders.Authorization = new("Bearer", "secret");
            process.ErrorDataReceived += (_, line) => _errors.AppendLine(line.Data);
            process.BeginErrorReadLine();
        }

        public string Errors => _errors.ToString();

        public Uri Address => _client.BaseAddress!;

        public static async Task<Served> StartAsync(params string[] args)
        {
            ProcessStartInfo info = new(Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet") { RedirectStandardOutput = true, RedirectStandardError = true };
            foreach (string argument in (string[])["exec", Path.Combine(AppContext.BaseDirectory, "kvcache.dll"), "serve", "--device", "cpu", "--urls", "http://127.0.0.1:0", .. args])
            {
                info.ArgumentList.Add(argument);
            }

            Process process = Process.Start(info)!;
            string line = await process.StandardOutput.ReadLineAsync() ?? await process.StandardError.ReadToEndAsync();
            int start = line.IndexOf("http://", StringComparison.Ordinal);
            Assert.True(start > 0, line);
            return new Served(process, new Uri(line[start..line.IndexOf(": POST", StringComparison.Ordinal)]));
        }

        public async Task<(string Text, int Cached)> ChatAsync((string Role, string Content)[] messages, int tokens)
        {
            using HttpResponseMessage answer = await _client.PostAsJsonAsync(
                new Uri("v1/chat/completions", UriKind.Relative), new { model = "demo-model", temperature = 0, max_tokens = tokens, messages = messages.Select(one => new { role = one.Role, content = one.Content }) });
            JsonElement body = await answer.Content.ReadFromJsonAsync<JsonElement>();
            Assert.True(answer.StatusCode == HttpStatusCode.OK, $"{body}");
            return (body.GetProperty("choices")[0].GetProperty("message").GetProperty("content").GetString()!, body.GetProperty("usage").GetProperty("prompt_tokens_details").GetProperty("cached_tokens").GetInt32());
        }

        /// <summary>Waits until so many answers are being generated.</summary>
        public async Task UntilRunAsync(int answers)
        {
            using StreamReader reader = new(await _client.GetStreamAsync(new Uri("live/events", UriKind.Relative)));
            while (await reader.ReadLineAsync() is { } line)
            {
                if (line.StartsWith("data: ", StringComparison.Ordinal)
                    && JsonDocument.Parse(line["data: ".Length..]).RootElement.GetProperty("answers").EnumerateArray().Count(one => one.GetProperty("new_tokens").GetInt32() > 0) == answers)
                {
                    return;
                }
            }

            Assert.Fail("the server ended first");
        }

        public void Kill()
        {
            _process.Kill();
            _process.WaitForExit();
        }

        /// <summary>Sends SIGTERM, and waits for the exit code.</summary>
        public async Task<int> StopAsync()
        {
            using Process kill = Process.Start("kill", ["-TERM", $"{_process.Id}"]);
            await _process.WaitForExitAsync();
            return _process.ExitCode;
        }

        public void Dispose()
        {
            _client.Dispose();
            if (!_process.HasExited)
            {
                Kill();
            }

            _process.Dispose();
        }
    }
}
