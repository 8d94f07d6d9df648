using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace KvCacheGpu;

/// <summary>A long operation on sequences: an activity, a duration, and an event if it fails.</summary>
internal sealed class CacheOperation
{
    public static readonly CacheOperation Save = new("kvcache.save", "save", Durations.Snapshot);
    public static readonly CacheOperation Load = new("kvcache.load", "load", Durations.Snapshot);
    public static readonly CacheOperation Import = new("kvcache.import", "import", Durations.Snapshot);
    public static readonly CacheOperation SwapOut = new("kvcache.swap_out", "out", Durations.Swap);
    public static readonly CacheOperation SwapIn = new("kvcache.swap_in", "in", Durations.Swap);

    private static readonly ActivitySource s_source = new(KvDiagnostics.ActivitySourceName, KvDiagnostics.Version);

    private readonly string _activity;
    private readonly string _name;
    private readonly Histogram<double> _duration;

    private CacheOperation(string activity, string name, Histogram<double> duration) => (_activity, _name, _duration) = (activity, name, duration);

    /// <summary>Runs the operation.</summary>
    /// <param name="counts">The cache's.</param>
    /// <param name="work">The operation.</param>
    /// <param name="describe">Tags the activity with what was done; not asked while nobody listens.</param>
    /// <param name="snapshot">Name of the snapshot, or null. The tenant's is left out.</param>
    public T Run<T>(CacheCounts counts, Func<T> work, Action<Activity, T> describe, string? snapshot = null)
    {
        using Activity? activity = s_source.StartActivity(_activity);
        long began = Durations.Begin(_duration);
        Tag(activity, Tags.Cache, counts.Name);
        Tag(activity, Tags.Snapshot, snapshot);
        try
        {
            T result = work();
            Durations.End(_duration, began, [.. counts.Own, Tags.Of(Tags.Operation, _name)]);
            if (activity is not null)
            {
                describe(activity, result);
            }

            return result;
        }
        catch (Exception e)
        {
            string error = Tags.Of(e);
            activity?.SetTag(Tags.Error, error).SetStatus(ActivityStatusCode.Error, e.Message);
            Durations.End(_duration, began, [.. counts.Own, Tags.Of(Tags.Operation, _name), Tags.Of(Tags.Error, error)]);
            if (_duration == Durations.Snapshot && e is not OperationCanceledException)
            {
                CacheEvents.Log.NoteSnapshotFailure(counts.Name, _name, e);
            }

            throw;
        }
    }

    /// <summary>Says how much was saved, loaded or swapped.</summary>
    public static void Describe(Activity activity, long sequences, long tokens, long bytes) =>
        activity.SetTag("kvcache.sequences", sequences).SetTag("kvcache.tokens", tokens).SetTag("kvcache.bytes", bytes);

    /// <summary>Says what a snapshot holds; nothing of what is none.</summary>
    public static void Describe(Activity activity, SnapshotInfo? info)
    {
        if (info is not null)
        {
            Describe(activity, info.Sequences, info.Tokens, info.Bytes);
        }
    }

    private static void Tag(Activity? activity, string tag, string? value)
    {
        if (activity is not null && value is not null)
        {
            activity.SetTag(tag, value);
        }
    }
}
