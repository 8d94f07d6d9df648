using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using KvCacheGpu.Evaluation;
using KvCacheGpu.Llama;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.Logging;

namespace KvCacheGpu.Serving.AspNetCore.Tests;

/// <summary>The demo model on a real server with a port of its own.</summary>
internal sealed class TestServer : IAsyncDisposable
{
    private static readonly Lazy<LlamaModel> Demo = new(DemoModel.Load);

    private readonly WebApplication _app;
    private readonly LlamaDecoder _decoder;

    private TestServer(WebApplication app, KvCache cache, KvScheduler scheduler, KvServedModel model, GatedModel gate, LlamaDecoder decoder) =>
        (_app, Cache, Scheduler, Model, Gate, _decoder) = (app, cache, scheduler, model, gate, decoder);

    public KvCache Cache { get; }

    public KvScheduler Scheduler { get; }

    public KvServedModel Model { get; }

    public GatedModel Gate { get; }

    public WebApplication App => _app;

    public Uri Address => new(_app.Urls.Single());

    public static async Task<TestServer> StartAsync(
        Action<KvServerOptions>? configure = null, Action<KvCacheOptions>? configureCache = null, Func<KvSchedulerOptions, KvSchedulerOptions>? schedule = null, bool hasTemplate = true)
    {
        LlamaModel llama = Demo.Value;
        KvCacheOptions options = new() { Device = "cpu", Name = "test", MaxTokens = 8192, MaxSequenceTokens = 4096, MaxSequences = 12, MaxBatchTokens = 256, PrefixReuse = true, PageStatistics = true };
        configureCache?.Invoke(options);
        LlamaDecoder decoder = new(llama, options.MaxBatchTokens);
        GatedModel gate = new(decoder);
        KvCache cache = new(llama.Geometry(), options);
        KvServedModel model = new("demo-model", gate) { Tokenizer = llama.Tokenizer, ChatTemplate = hasTemplate ? new LineTemplate() : null };
        KvSchedulerOptions scheduling = new() { MaxConcurrency = 8, Tokenizer = llama.Tokenizer };
        KvScheduler scheduler = new(cache, gate, schedule?.Invoke(scheduling) ?? scheduling);
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        builder.Logging.ClearProviders();
        builder.Services.AddKvServing(model, scheduler, configure);
        WebApplication app = builder.Build();
        app.MapKvServing();
        await app.StartAsync();
        return new TestServer(app, cache, scheduler, model, gate, decoder);
    }

    public HttpClient Client(string? key = null)
    {
        HttpClient client = new() { BaseAddress = Address, Timeout = TimeSpan.FromMinutes(2) };
        client.DefaultRequestHeaders.Authorization = key is null ? null : new AuthenticationHeaderValue("Bearer", key);
        return client;
    }

    /// <summary>Posts JSON; the answer must have the status.</summary>
    public async Task<JsonElement> PostAsync(string path, object body, HttpStatusCode status = HttpStatusCode.OK, string? key = null)
    {
        using HttpClient client = Client(key);
        using StringContent content = new(body as string ?? JsonSerializer.Serialize(body), Encoding.UTF8, "application/json");
        using HttpResponseMessage answer = await client.PostAsync(new Uri(path, UriKind.Relative), content);
        string text = await answer.Content.ReadAsStringAsync();
        Assert.True(status == answer.StatusCode, $"{answer.StatusCode}: {text}");
        using JsonDocument document = JsonDocument.Parse(text);
        return document.RootElement.Clone();
    }

    public static object Chat(string content, int tokens, object? more = null) => Join(new { model = "demo-model", messages = new[] { new { role = "user", content } }, max_tokens = tokens, temperature = 0 }, more);

    public static object Completion(object prompt, int tokens, object? more = null) => Join(new { model = "demo-model", prompt, max_tokens = tokens, temperature = 0 }, more);

    public async ValueTask DisposeAsync()
    {
        Gate.Open();
        await _app.StopAsync();
        await _app.DisposeAsync();
        await Scheduler.DisposeAsync();
        Cache.Dispose();
        _decoder.Dispose();
        Gate.Dispose();
    }

    private static Dictionary<string, object?> Join(object first, object? second)
    {
        Dictionary<string, object?> all = [];
        foreach (object one in new[] { first, second }.OfType<object>())
        {
            foreach (System.Reflection.PropertyInfo property in one.GetType().GetProperties())
            {
                all[property.Name] = property.GetValue(one);
            }
        }

        return all;
    }
}
