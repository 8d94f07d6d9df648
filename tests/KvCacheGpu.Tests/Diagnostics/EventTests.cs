using System.Collections.Concurrent;
using System.Diagnostics.Tracing;
using KvCacheGpu.Tests.Snapshots;

namespace KvCacheGpu.Tests;

/// <summary>Each event is told to a listener, with its fields.</summary>
public sealed class EventTests : IDisposable
{
    private static readonly KvGeometry G = TestCaches.Tiny;
    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-events-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void A_refusal_says_what_was_missing()
    {
        using var listener = new Listener("refused-events");
        using KvCache cache = TestCaches.Simd(G, Options("refused-events", options => options.MaxSequences = 1));
        using KvSequence sequence = cache.CreateSequence();
        KvOutOfMemoryException refused = Assert.Throws<KvOutOfMemoryException>(() => cache.CreateSequence());
        Assert.Equal((1, "Refused", "cache=refused-events what=a new sequence resource=sequences needed=1 free=0"), Assert.Single(listener.Events));
        Assert.Equal((1L, 0L), (refused.Needed, refused.Free));
    }

    [Fact]
    public void An_eviction_says_whose_pages_went()
    {
        using var listener = new Listener("evicted-events");
        using KvCache cache = TestCaches.Simd(G, Options("evicted-events", options => options.Policy = new WindowPolicy(4, 12)));
        using KvSequence sequence = cache.CreateSequence();
        long before = 0;
        for (int id = 0; listener.Events.IsEmpty && id < 100; id += 4)
        {
            before = sequence.AllocatedBytes;
            sequence.Feed(id, id + 1, id + 2, id + 3);
        }

        // The page that the step opened came as another went.
        (int id1, string name, string fields) = Assert.Single(listener.Events);
        long bytes = before + (4L * G.Layers * G.KvHeads * cache.State.Classes.Shape.Classes[0].Bytes / 4) - sequence.AllocatedBytes;
        Assert.Equal((2, "Evicted", $"cache=evicted-events sequence={sequence.Id} bytes={bytes}"), (id1, name, fields));
    }

    [Fact]
    public void A_tier_that_fails_is_told()
    {
        using var listener = new Listener("event-tier");
        var tier = new MapTier("event-tier") { Reading = _ => throw new IOException("the cable is out") };
        using KvCache cache = TestCaches.Simd(G, Options("tier-events", options => (options.PrefixReuse, options.ModelFingerprint, options.Tiers) = (true, "toy", [tier])));
        using KvSequence sequence = cache.CreateSequence();
        Assert.Equal(0, sequence.Reuse([.. Enumerable.Range(0, 9)]));
        Assert.Equal((3, "TierFailed", "tier=event-tier error=System.IO.IOException message=the cable is out"), Assert.Single(listener.Events));
    }

    [Fact]
    public async Task A_snapshot_that_fails_is_told_and_one_that_is_cancelled_is_not()
    {
        using var listener = new Listener("snapshot-events");
        using KvCache cache = TestCaches.Simd(G, Options("snapshot-events"));
        KvSnapshotNotFoundException failure = await Assert.ThrowsAsync<KvSnapshotNotFoundException>(() => cache.LoadAsync(new SnapshotStore(_folder), "none"));
        Assert.Equal((4, "SnapshotFailed", $"cache=snapshot-events operation=load error=E002 message={failure.Message}"), Assert.Single(listener.Events));
        using var cancel = new CancellationTokenSource();
        using KvSequence sequence = cache.CreateSequence();
        sequence.Feed(1, 2, 3);
        var progress = new OnReport(cancel.Cancel);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cache.SaveAsync(new SnapshotStore(_folder), "a", progress: progress, cancellationToken: cancel.Token));
        Assert.Single(listener.Events);
    }

    private static KvCacheOptions Options(string name, Action<KvCacheOptions>? change = null)
    {
        KvCacheOptions options = TestCaches.Config();
        options.Name = name;
        change?.Invoke(options);
        return options;
    }

    // The base's constructor tells of sources that there are already, before this one's has run.
    private sealed class Listener(string own) : EventListener
    {
        public ConcurrentQueue<(int Id, string Name, string Fields)> Events { get; } = [];

        protected override void OnEventSourceCreated(EventSource eventSource)
        {
            if (eventSource.Name == KvDiagnostics.EventSourceName)
            {
                EnableEvents(eventSource, EventLevel.Verbose);
            }
        }

        protected override void OnEventWritten(EventWrittenEventArgs eventData)
        {
            if (eventData.EventSource.Name == KvDiagnostics.EventSourceName && (string?)eventData.Payload![0] == own)
            {
                Events.Enqueue((eventData.EventId, eventData.EventName!, string.Join(' ', eventData.PayloadNames!.Zip(eventData.Payload, (name, value) => $"{name}={value}"))));
            }
        }
    }
}
