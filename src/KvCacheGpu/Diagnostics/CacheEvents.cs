using System.Diagnostics.Tracing;

namespace KvCacheGpu;

/// <summary>The event source of all caches: few events, for what a metric does not explain. Without a listener an event costs a comparison.</summary>
[EventSource(Name = KvDiagnostics.EventSourceName)]
internal sealed class CacheEvents : EventSource
{
    private const int RefusedId = 1;
    private const int EvictedId = 2;
    private const int TierFailedId = 3;
    private const int SnapshotFailedId = 4;

    public static readonly CacheEvents Log = new();

    private CacheEvents()
    {
    }

    [NonEvent]
    public void NoteRefusal(string? cache, in KvShortage shortage)
    {
        if (IsEnabled(EventLevel.Informational, EventKeywords.None))
        {
            Refused(cache ?? string.Empty, shortage.What, Tags.Of(shortage.Resource), shortage.Needed, shortage.Free);
        }
    }

    [NonEvent]
    public void NoteEviction(string? cache, long sequence, long bytes)
    {
        if (bytes > 0 && IsEnabled(EventLevel.Verbose, EventKeywords.None))
        {
            Evicted(cache ?? string.Empty, sequence, bytes);
        }
    }

    [NonEvent]
    public void NoteTierFailure(string tier, Exception failure)
    {
        if (IsEnabled(EventLevel.Warning, EventKeywords.None))
        {
            TierFailed(tier, Tags.Of(failure), failure.Message);
        }
    }

    [NonEvent]
    public void NoteSnapshotFailure(string? cache, string operation, Exception failure)
    {
        if (IsEnabled(EventLevel.Error, EventKeywords.None))
        {
            SnapshotFailed(cache ?? string.Empty, operation, Tags.Of(failure), failure.Message);
        }
    }

    [Event(RefusedId, Level = EventLevel.Informational, Message = "{1} is refused: {3} needed of {2}, {4} free")]
    private void Refused(string cache, string what, string resource, long needed, long free) => WriteEvent(RefusedId, cache, what, resource, needed, free);

    [Event(EvictedId, Level = EventLevel.Verbose, Message = "sequence {1} gave {2} bytes")]
    private void Evicted(string cache, long sequence, long bytes) => WriteEvent(EvictedId, cache, sequence, bytes);

    [Event(TierFailedId, Level = EventLevel.Warning, Message = "tier {0}: {2}")]
    private void TierFailed(string tier, string error, string message) => WriteEvent(TierFailedId, tier, error, message);

    [Event(SnapshotFailedId, Level = EventLevel.Error, Message = "{1}: {3}")]
    private void SnapshotFailed(string cache, string operation, string error, string message) => WriteEvent(SnapshotFailedId, cache, operation, error, message);
}
