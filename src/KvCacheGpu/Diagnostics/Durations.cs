using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace KvCacheGpu;

/// <summary>Histograms of how long things take, in seconds. Nothing looks at the clock while nobody listens to the histogram.</summary>
internal static class Durations
{
    private static readonly InstrumentAdvice<double> s_buckets = new()
    {
        HistogramBucketBoundaries = [1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, .1, .25, .5, 1, 2.5, 5, 10, 30, 100],
    };

    public static readonly Histogram<double> Step = Make("kvcache.step.duration", "From the begin of a step until it was committed.");
    public static readonly Histogram<double> Attend = Make("kvcache.attend.duration", "One call of Attend: until outputs are written in host memory, until they are enqueued on a device.");
    public static readonly Histogram<double> Seal = Make("kvcache.seal.duration", "The encoding of the pages that a step seals: until they are written in host memory, until they are enqueued on a device.");
    public static readonly Histogram<double> Plan = Make("kvcache.plan.duration", "One plan of the policy for one sequence, and carrying it out.");
    public static readonly Histogram<double> Snapshot = Make("kvcache.snapshot.duration", "One save, load or import of sequences.");
    public static readonly Histogram<double> Swap = Make("kvcache.swap.duration", "Swapping sequences out to host memory, or in from there.");

    /// <summary>The time, or 0 while nobody listens to a histogram.</summary>
    public static long Begin(Histogram<double> histogram) => histogram.Enabled ? Stopwatch.GetTimestamp() : 0;

    /// <summary>Records the time that has passed since <see cref="Begin"/>, if that has looked at the clock.</summary>
    public static void End(Histogram<double> histogram, long began, ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        if (began != 0)
        {
            histogram.Record(Stopwatch.GetElapsedTime(began).TotalSeconds, tags);
        }
    }

    private static Histogram<double> Make(string name, string description) => KvDiagnostics.Meter.CreateHistogram(name, "s", description, null, s_buckets);
}
