using System.CommandLine;
using System.Globalization;
using Spectre.Console;

namespace KvCacheGpu.Cli;

/// <summary><c>kvcache bench serve</c>: a load on a server with OpenAI's endpoints, and how its answers come.</summary>
internal static class BenchServeCommand
{
    private const int DefaultClients = 8;
    private const int DefaultConversations = 100;
    private const int DefaultWords = 200;
    private const int DefaultDeadline = 30;

    /// <summary>Makes the command.</summary>
    public static Command Create(Terminal terminal)
    {
        Option<string?> url = Choice.Text("--url", "URL", "The server: http://HOST:PORT. It may be any with OpenAI's /v1/completions.");
        url.Required = true;
        url.Validators.Add(result =>
        {
            if (!Uri.TryCreate(result.Tokens is [var token, ..] ? token.Value : "", UriKind.Absolute, out Uri? address) || address.Scheme is not ("http" or "https"))
            {
                result.AddError($"E003: --url: expected http://HOST:PORT, got '{(result.Tokens is [var wrong, ..] ? wrong.Value : "")}'");
            }
        });
        Option<string?> key = Choice.Text("--api-key", "KEY", "The key that the server asks for. Default: the environment's KVCACHE_API_KEY, or none.");
        Option<string?> mix = Choice.Text("--mix", string.Join('|', LoadMix.Names), "What is asked: prompts that begin alike, conversations of four turns, or long prompts. Default: shared-prefix.");
        mix.AcceptOnlyFromAmong(LoadMix.Names);
        Option<int?> clients = Choice.Number("--clients", $"Conversations at once, each of which goes on when it has its answer. Default: {DefaultClients}.", 1);
        Option<double?> rate = Choice.Parsed<double?>(
            "--rate", "R", "Conversations begun each second, at random, however the server keeps up; in place of --clients.", "a number above 0",
            (string text, out double? value) =>
            {
                value = double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double number) ? number : null;
                return value > 0 && double.IsFinite(number);
            });
        Option<int?> conversations = Choice.Number("--conversations", $"Conversations that are measured. Default: {DefaultConversations}.", 1);
        Option<int?> warmUp = Choice.Number("--warm-up", "Conversations before these, which are not measured. Default: as many as --clients.", 0);
        Option<int?> words = Choice.Number("--words", $"About the most words of a prompt and its answer together. Default: {DefaultWords}.", 40);
        Option<int?> deadline = Choice.Number("--deadline", $"Seconds within which an answer must be whole to count. Default: {DefaultDeadline}.", 1);
        Option<int?> seed = Choice.Number("--seed", "Seed of texts and times. Default: 0.", 0);
        Option<bool> json = Choice.Json();
        Command command = new("serve", "Put a load on a server with OpenAI's endpoints, and measure how its answers come.")
        {
            url, key, mix, clients, rate, conversations, warmUp, words, deadline, seed, json,
        };
        command.SetAction(async (parsed, _) =>
        {
            LoadSettings settings = new(
                parsed.GetValue(clients) ?? DefaultClients,
                parsed.GetValue(rate),
                parsed.GetValue(conversations) ?? DefaultConversations,
                parsed.GetValue(warmUp) ?? parsed.GetValue(clients) ?? DefaultClients,
                TimeSpan.FromSeconds(parsed.GetValue(deadline) ?? DefaultDeadline),
                parsed.GetValue(seed) ?? 0);
            LoadReport report = await MeasureAsync(
                terminal,
                parsed.GetValue(url)!,
                parsed.GetValue(key) ?? Environment.GetEnvironmentVariable("KVCACHE_API_KEY"),
                parsed.GetValue(mix) ?? LoadMix.Names[0],
                parsed.GetValue(words) ?? DefaultWords,
                settings,
                parsed.GetValue(json)).ConfigureAwait(false);
            if (parsed.GetValue(json))
            {
                terminal.WriteJson(report);
            }
            else
            {
                Print(terminal, report);
            }

            return report.Errors.Count == 0 ? CommandLine.Done : CommandLine.Failed;
        });
        return command;
    }

    private static async Task<LoadReport> MeasureAsync(Terminal terminal, string url, string? key, string mix, int words, LoadSettings settings, bool isQuiet)
    {
        using LoadClient client = await LoadClient.ConnectAsync(url, key).ConfigureAwait(false);
        LoadRun run = new(client, new LoadMix(mix, words, settings.Seed), settings);
        (IReadOnlyList<LoadSample> samples, double seconds) = terminal.WithProgress(
            isQuiet, stages => run.RunAsync(stages.Begin($"ask {client.Model}", settings.WarmUp + settings.Conversations)).GetAwaiter().GetResult());
        return LoadReport.Of(url, client.Model, mix, settings, samples, seconds);
    }

    private static void Print(Terminal terminal, LoadReport report)
    {
        TextWriter output = terminal.Output;
        string load = report.Rate is { } rate ? Text($"{rate} conversations begun a second") : Text($"{report.Clients} clients");
        output.WriteLine($"{report.Url}: {report.Model}, {report.Mix}, {load}");
        output.WriteLine(Text($"{report.Requests} requests in {report.Seconds:f1} s; {report.TokensPerSecond:f1} tokens/s; {report.Goodput:f2} answers/s within {report.DeadlineSeconds:f0} s"));
        output.WriteLine(Text($"{report.PromptTokens} tokens of prompts, of which the server had {report.CachedTokens}; {report.NewTokens} of answers"));
        Table table = terminal.NewTable("ms", "#p50", "#p90", "#p95", "#p99", "#most");
        AddRow(table, "to the first token", report.FirstToken);
        AddRow(table, "between tokens", report.NextToken);
        AddRow(table, "to the whole answer", report.Answer);
        terminal.Write(table);
        foreach ((string error, int count) in report.Errors)
        {
            output.WriteLine($"without an answer: {count}, {error}");
        }
    }

    private static void AddRow(Table table, string name, LoadPercentiles times) => table.AddRow(
        name, Milliseconds(times.P50), Milliseconds(times.P90), Milliseconds(times.P95), Milliseconds(times.P99), Milliseconds(times.Most));

    private static string Milliseconds(double seconds) => Text($"{seconds * 1000:f1}");

    private static string Text(FormattableString text) => FormattableString.Invariant(text);
}
