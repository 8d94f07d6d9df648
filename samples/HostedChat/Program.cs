using KvCacheGpu;
using KvCacheGpu.Hosting;
using KvCacheGpu.Samples;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using OpenTelemetry.Metrics;

// A host with a cache from its configuration, sessions that are kept over restarts, health, metrics and logs.
// Usage: HostedChat FOLDER: each run goes on with the conversation that the run before has saved in FOLDER.
if (args is not [string folder])
{
    Console.Error.WriteLine("usage: HostedChat FOLDER");
    return 2;
}

HostApplicationBuilder builder = Host.CreateApplicationBuilder(new HostApplicationBuilderSettings { ContentRootPath = AppContext.BaseDirectory });
builder.Logging.ClearProviders();
builder.Services.AddKvCache("chat", builder.Configuration.GetSection("KvCaches:chat"), options => options.Sessions.Directory = folder).AddHealthCheck();
builder.Services.AddOpenTelemetry().WithMetrics(metrics => metrics.AddKvCacheInstrumentation().AddConsoleExporter());
builder.Services.AddSingleton<Conversation>();
using IHost host = builder.Build();
await host.StartAsync();

int[] conversation = await host.Services.GetRequiredService<Conversation>().SayAsync("acme", "friday", [11, 42, 7]);
Console.WriteLine($"The conversation has {conversation.Length} tokens.");
HealthReport health = await host.Services.GetRequiredService<HealthCheckService>().CheckHealthAsync();
Console.WriteLine($"The cache is {health.Status}.");

// The exporter tells every ten seconds; this run is shorter.
host.Services.GetRequiredService<MeterProvider>().ForceFlush();
await host.StopAsync();
return 0;
