using System.Diagnostics;
using OpenTelemetry;
using OpenTelemetry.Metrics;
using OpenTelemetry.Trace;

namespace KvCacheGpu.Hosting.Tests;

/// <summary>OpenTelemetry gets the metrics and traces of caches by one call each.</summary>
public sealed class OpenTelemetryTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-telemetry-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Metrics_and_traces_arrive()
    {
        List<Metric> metrics = [];
        List<Activity> activities = [];
        using MeterProvider meters = Sdk.CreateMeterProviderBuilder().AddKvCacheInstrumentation().AddInMemoryExporter(metrics).Build();
        using TracerProvider traces = Sdk.CreateTracerProviderBuilder().AddKvCacheInstrumentation().AddInMemoryExporter(activities).Build();
        using var cache = new KvCache(Hosts.Tiny, new KvCacheOptions { Device = "cpu", MaxTokens = 64, MaxSequences = 1, Name = "telemetry" });
        using KvSequence sequence = cache.CreateSequence();
        sequence.Feed(1, 2, 3);
        await cache.SaveAsync(new SnapshotStore(_folder), "a");
        Assert.True(meters.ForceFlush());
        Assert.True(traces.ForceFlush());

        Assert.Equal(3, Sum(metrics.Single(one => one.Name == "kvcache.tokens.appended")));
        Metric duration = metrics.Single(one => one.Name == "kvcache.step.duration");
        Assert.Equal((MetricType.Histogram, "s"), (duration.MetricType, duration.Unit));
        Assert.Contains("kvcache.save", activities.Where(one => (string?)one.GetTagItem("kvcache.name") == "telemetry").Select(one => one.OperationName));
    }

    private static long Sum(Metric metric)
    {
        long sum = 0;
        foreach (ref readonly MetricPoint point in metric.GetMetricPoints())
        {
            foreach (KeyValuePair<string, object?> tag in point.Tags)
            {
                sum += tag is { Key: "kvcache.name", Value: "telemetry" } ? point.GetSumLong() : 0;
            }
        }

        return sum;
    }
}
