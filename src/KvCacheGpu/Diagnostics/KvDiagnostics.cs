using System.Diagnostics.Metrics;

namespace KvCacheGpu;

/// <summary>
/// Names under which caches report what they do: to meters, traces and event listeners of the runtime. Nothing is read or timed while nobody listens. The instruments, activities and events are
/// listed in docs/diagnostics.md.
/// </summary>
public static class KvDiagnostics
{
    /// <summary>Name of the meter: for <c>AddMeter</c> of OpenTelemetry, <c>dotnet-counters</c>, or a <see cref="MeterListener"/>.</summary>
    public const string MeterName = "KvCacheGpu";

    /// <summary>Name of the activity source: for <c>AddSource</c> of OpenTelemetry, or an <see cref="System.Diagnostics.ActivityListener"/>.</summary>
    public const string ActivitySourceName = "KvCacheGpu";

    /// <summary>Name of the event source: for <c>dotnet-trace</c>, or an <see cref="System.Diagnostics.Tracing.EventListener"/>.</summary>
    public const string EventSourceName = "KvCacheGpu";

    /// <summary>The version of the meter and of the activity source.</summary>
    internal static string Version { get; } = typeof(KvDiagnostics).Assembly.GetName().Version!.ToString(3);

    /// <summary>The meter of all caches of the process.</summary>
    internal static Meter Meter { get; } = new(new MeterOptions(MeterName) { Version = Version });
}
