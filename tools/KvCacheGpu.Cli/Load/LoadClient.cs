using System.Diagnostics;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;

namespace KvCacheGpu.Cli;

/// <summary>Asks a server for completions, and measures how they come.</summary>
internal sealed class LoadClient : IDisposable
{
    private const string Data = "data: ";

    private readonly HttpClient _http;
    private readonly string _model;

    private LoadClient(HttpClient http, string model) => (_http, _model) = (http, model);

    /// <summary>The model that is asked.</summary>
    public string Model => _model;

    /// <summary>Finds a server and its model.</summary>
    /// <param name="url">The server: http://HOST:PORT.</param>
    /// <param name="key">The key that it asks for; null for none.</param>
    /// <exception cref="UsageException">There is none, or it serves no model.</exception>
    public static async Task<LoadClient> ConnectAsync(string url, string? key)
    {
        HttpClient http = new(new SocketsHttpHandler { MaxConnectionsPerServer = 4096 }) { BaseAddress = new Uri(url), Timeout = Timeout.InfiniteTimeSpan };
        if (key is not null)
        {
            http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", key);
        }

        try
        {
            using JsonDocument models = JsonDocument.Parse(await http.GetStringAsync("/v1/models").ConfigureAwait(false));
            string model = models.RootElement.GetProperty("data")[0].GetProperty("id").GetString()!;
            return new LoadClient(http, model);
        }
        catch (Exception e) when (e is HttpRequestException or JsonException or KeyNotFoundException or InvalidOperationException or IndexOutOfRangeException)
        {
            http.Dispose();
            throw new UsageException("--url", "a server that answers GET /v1/models with a model", e.Message, "E002");
        }
    }

    /// <summary>Asks for a completion.</summary>
    /// <param name="prompt">The text.</param>
    /// <param name="newTokens">The most tokens of the answer.</param>
    /// <param name="begun">From when its times are measured: when it should have been sent.</param>
    /// <param name="deadline">The time after which it is given up.</param>
    public async Task<LoadSample> AskAsync(string prompt, int newTokens, long begun, TimeSpan deadline)
    {
        LoadSample sample = new();
        using CancellationTokenSource cancel = new(deadline);
        try
        {
            using HttpRequestMessage request = new(HttpMethod.Post, "/v1/completions") { Content = Body(prompt, newTokens) };
            using HttpResponseMessage response = await _http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancel.Token).ConfigureAwait(false);
            if (!response.IsSuccessStatusCode)
            {
                return sample with { Error = $"status {(int)response.StatusCode}", Total = Stopwatch.GetElapsedTime(begun) };
            }

            using StreamReader reader = new(await response.Content.ReadAsStreamAsync(cancel.Token).ConfigureAwait(false));
            return await ReadAsync(reader, begun, cancel.Token).ConfigureAwait(false);
        }
        catch (Exception e) when (e is HttpRequestException or OperationCanceledException or IOException or JsonException)
        {
            return sample with { Error = e is OperationCanceledException ? "deadline" : e.GetType().Name, Total = Stopwatch.GetElapsedTime(begun) };
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _http.Dispose();

    private StringContent Body(string prompt, int newTokens)
    {
        using MemoryStream stream = new();
        using (Utf8JsonWriter writer = new(stream))
        {
            writer.WriteStartObject();
            writer.WriteString("model", _model);
            writer.WriteString("prompt", prompt);
            writer.WriteNumber("max_tokens", newTokens);
            writer.WriteNumber("temperature", 0);
            writer.WriteBoolean("stream", true);
            writer.WriteStartObject("stream_options");
            writer.WriteBoolean("include_usage", true);
            writer.WriteEndObject();
            writer.WriteEndObject();
        }

        return new StringContent(Encoding.UTF8.GetString(stream.ToArray()), Encoding.UTF8, "application/json");
    }

    private static async Task<LoadSample> ReadAsync(StreamReader reader, long begun, CancellationToken cancel)
    {
        List<double> gaps = [];
        StringBuilder text = new();
        LoadSample sample = new();
        long last = 0;
        bool isWhole = false;
        while (await reader.ReadLineAsync(cancel).ConfigureAwait(false) is { } line)
        {
            if (!line.StartsWith(Data, StringComparison.Ordinal))
            {
                continue;
            }

            if (line.AsSpan(Data.Length).SequenceEqual("[DONE]"))
            {
                isWhole = true;
                break;
            }

            long now = Stopwatch.GetTimestamp();
            using JsonDocument piece = JsonDocument.Parse(line.AsMemory(Data.Length));
            if (piece.RootElement.TryGetProperty("error", out JsonElement error))
            {
                return sample with { Error = error.TryGetProperty("type", out JsonElement type) ? type.GetString() : "error", Total = Stopwatch.GetElapsedTime(begun) };
            }

            sample = WithUsage(sample, piece.RootElement);
            if (piece.RootElement.TryGetProperty("choices", out JsonElement choices) && choices.GetArrayLength() > 0)
            {
                text.Append(choices[0].GetProperty("text").GetString());
                if (last == 0)
                {
                    sample = sample with { FirstToken = Stopwatch.GetElapsedTime(begun, now) };
                }
                else
                {
                    gaps.Add(Stopwatch.GetElapsedTime(last, now).TotalSeconds);
                }

                last = now;
            }
        }

        return sample with { Error = isWhole ? null : "torn", Total = Stopwatch.GetElapsedTime(begun), Gaps = gaps, Text = text.ToString() };
    }

    private static LoadSample WithUsage(LoadSample sample, JsonElement piece)
    {
        if (!piece.TryGetProperty("usage", out JsonElement usage) || usage.ValueKind != JsonValueKind.Object)
        {
            return sample;
        }

        int cached = usage.TryGetProperty("prompt_tokens_details", out JsonElement details) && details.ValueKind == JsonValueKind.Object
            && details.TryGetProperty("cached_tokens", out JsonElement known) ? known.GetInt32() : 0;
        return sample with { PromptTokens = usage.GetProperty("prompt_tokens").GetInt32(), NewTokens = usage.GetProperty("completion_tokens").GetInt32(), CachedTokens = cached };
    }
}

/// <summary>How one request went.</summary>
internal sealed record LoadSample
{
    /// <summary>Why it has no whole answer: a status, "deadline", "torn"; null if it has one.</summary>
    public string? Error { get; init; }

    /// <summary>Time to the first piece of the answer; null without any.</summary>
    public TimeSpan? FirstToken { get; init; }

    /// <summary>Time to its end.</summary>
    public TimeSpan Total { get; init; }

    /// <summary>Seconds from each piece to the next.</summary>
    public IReadOnlyList<double> Gaps { get; init; } = [];

    /// <summary>Tokens of the prompt, as the server counts.</summary>
    public int PromptTokens { get; init; }

    /// <summary>Those that the server had already.</summary>
    public int CachedTokens { get; init; }

    /// <summary>Tokens of the answer.</summary>
    public int NewTokens { get; init; }

    /// <summary>The answer.</summary>
    public string Text { get; init; } = "";
}
