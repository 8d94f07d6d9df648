using OpenTelemetry.Metrics;
using OpenTelemetry.Trace;

namespace KvCacheGpu;

/// <summary>Adds what caches report (<see cref="KvDiagnostics"/>) to OpenTelemetry's providers.</summary>
public static class KvOpenTelemetry
{
    // KvCacheGpu.Serving's, whether or not the program has that package.
    private const string ServingMeter = "KvCacheGpu.Serving";

    /// <summary>Adds the metrics of all caches of the process, and those of what serves from them (the meter "KvCacheGpu.Serving").</summary>
    /// <param name="builder">The provider that is being made.</param>
    /// <returns>The same builder.</returns>
    public static MeterProviderBuilder AddKvCacheInstrumentation(this MeterProviderBuilder builder)
    {
        ArgumentNullException.ThrowIfNull(builder);
        return builder.AddMeter(KvDiagnostics.MeterName, ServingMeter);
    }

    /// <summary>Adds the traces of all caches of the process: saves, loads, imports, swaps, migrations.</summary>
    /// <param name="builder">The provider that is being made.</param>
    /// <returns>The same builder.</returns>
    public static TracerProviderBuilder AddKvCacheInstrumentation(this TracerProviderBuilder builder)
    {
        ArgumentNullException.ThrowIfNull(builder);
        return builder.AddSource(KvDiagnostics.ActivitySourceName);
    }
}
