using KvCacheGpu;
using KvCacheGpu.Hosting;
using KvCacheGpu.Samples;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using OpenTelemetry.Metrics;

// A web service of conversations: POST tokens to /TENANT/ID, and what comes next is the answer. Sessions that are idle leave the device; all are saved to a folder when the service stops.
// Usage: AspNetChat --folder FOLDER [--urls http://127.0.0.1:5000]
WebApplicationBuilder builder = WebApplication.CreateBuilder(args);
builder.Services.AddKvCache("chat", options =>
{
    (options.Geometry, options.Cache.MaxTokens) = (Model.Shape, 4096);
    options.Sessions.Directory = builder.Configuration["folder"];
}).AddHealthCheck();
builder.Services.AddOpenTelemetry().WithMetrics(metrics => metrics.AddKvCacheInstrumentation().AddConsoleExporter());
WebApplication app = builder.Build();
app.MapHealthChecks("/health");

// Whoever asks is a tenant: a service takes it from who is signed in, never from the address.
app.MapPost("/{tenant}/{id}", async (string tenant, string id, int[] tokens, [FromKeyedServices("chat")] IKvSessions sessions, CancellationToken cancel) =>
{
    if (tokens.Length == 0 || tokens.Any(token => token is < 0 or >= Model.Vocabulary))
    {
        return Results.BadRequest($"expected tokens of 0 to {Model.Vocabulary - 1}");
    }

    await using KvSessionLease lease = await sessions.RentAsync(tenant, id, cancel);
    int next = Model.Read(lease.Sequence, tokens);
    return Results.Ok(new { next, length = lease.Sequence.Length });
});

// The exporter tells every ten seconds; the last numbers are told while the cache is still there.
app.Lifetime.ApplicationStopping.Register(() => app.Services.GetRequiredService<MeterProvider>().ForceFlush());
await app.RunAsync();
