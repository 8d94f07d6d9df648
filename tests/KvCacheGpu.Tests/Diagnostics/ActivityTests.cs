using System.Collections.Concurrent;
using System.Diagnostics;

namespace KvCacheGpu.Tests;

/// <summary>Saving, loading, importing and swapping are activities, with what they did.</summary>
public sealed class ActivityTests : IDisposable
{
    private static readonly KvGeometry G = TestCaches.Tiny;
    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-activities-").FullName;
    private readonly ConcurrentQueue<Activity> _ended = [];

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Each_operation_is_one_activity_under_the_hosts()
    {
        using ActivityListener listener = Listen("activities");
        using KvCache cache = TestCaches.Simd(G, Options("activities"));
        using KvSequence one = cache.CreateSequence();
        KvSequence two = cache.CreateSequence();
        one.Feed(1, 2, 3);
        two.Feed(4, 5);
        var store = new SnapshotStore(_folder);
        using var host = new Activity("host");
        host.Start();
        SnapshotInfo info = await cache.SaveAsync(store, new SnapshotName("chat", null), [one, two]);
        KvRestored restored = await cache.LoadAsync(store, "chat", ["0"]);
        string file = Directory.GetFiles(_folder, "*CURRENT*").Single();
        two.Dispose();
        restored.Sequences[0].Dispose();
        KvRestored again = await cache.LoadSnapshotFileAsync(file);
        using KvSwapped swapped = await cache.SwapOutAsync([again.Sequences[0], again.Sequences[1]]);
        await cache.SwapInAsync(swapped);
        await Assert.ThrowsAsync<KvSnapshotNotFoundException>(() => cache.LoadAsync(store, "none"));
        host.Stop();

        Assert.Equal(["kvcache.save", "kvcache.load", "kvcache.load", "kvcache.swap_out", "kvcache.swap_in", "kvcache.load"], _ended.Select(one => one.OperationName));
        Assert.All(_ended, activity => Assert.Equal(host.SpanId, activity.ParentSpanId));
        Assert.All(_ended, activity => Assert.Equal(KvDiagnostics.ActivitySourceName, activity.Source.Name));
        Activity[] all = [.. _ended];
        Assert.Equal(("chat", 2L, 5L, info.Bytes), (all[0].GetTagItem("kvcache.snapshot"), all[0].GetTagItem("kvcache.sequences"), all[0].GetTagItem("kvcache.tokens"), all[0].GetTagItem("kvcache.bytes")));
        Assert.Equal(("chat", 5L), (all[1].GetTagItem("kvcache.snapshot"), all[1].GetTagItem("kvcache.tokens")));
        Assert.Null(all[2].GetTagItem("kvcache.snapshot"));
        Assert.Equal((2L, 5L, swapped.Bytes), (all[3].GetTagItem("kvcache.sequences"), all[3].GetTagItem("kvcache.tokens"), all[3].GetTagItem("kvcache.bytes")));
        Assert.Equal((2L, 5L, swapped.Bytes), (all[4].GetTagItem("kvcache.sequences"), all[4].GetTagItem("kvcache.tokens"), all[4].GetTagItem("kvcache.bytes")));
        Assert.All(all[..5], activity => Assert.Equal(ActivityStatusCode.Unset, activity.Status));
        Assert.Equal((ActivityStatusCode.Error, "E002"), (all[5].Status, all[5].GetTagItem("error.type")));
    }

    [Fact]
    public async Task An_import_is_an_activity()
    {
        using ActivityListener listener = Listen("imports");
        using KvCache cache = TestCaches.Simd(G, Options("imports"));
        var found = new ImportedCache
        {
            Layers = G.Layers,
            KvHeads = G.KvHeads,
            KeyWidth = G.KeyWidth,
            ValueWidth = G.ValueWidth,
            Sequences = [new ImportedSequence { Id = "a", Tokens = 3, ReadLayer = (_, _, _, keys, values) => (keys[0], values[0]) = (1, 2) }],
        };
        KvRestored restored = await cache.ImportAsync(found, "test");
        Activity activity = Assert.Single(_ended);
        Assert.Equal(("kvcache.import", 1L, 3L), (activity.OperationName, activity.GetTagItem("kvcache.sequences"), activity.GetTagItem("kvcache.tokens")));
        Assert.Equal(restored.Sequences[0].AllocatedBytes, activity.GetTagItem("kvcache.bytes"));
    }

    [Fact]
    public async Task A_groups_snapshot_is_one_activity()
    {
        using ActivityListener listener = Listen("group-activities");
        using var group = new KvCacheGroup(G, Options("group-activities"), KvPart.ByHeads(G, "cpu", "cpu"));
        using KvGroupSequence sequence = group.CreateSequence();
        var store = new SnapshotStore(_folder);
        await group.SaveAsync(store, "whole");
        await group.LoadAsync(store, "whole");
        Assert.Equal(["kvcache.save", "kvcache.load"], _ended.Select(one => one.OperationName));
        Assert.All(_ended, activity => Assert.Equal(("whole", 1L), (activity.GetTagItem("kvcache.snapshot"), activity.GetTagItem("kvcache.sequences"))));
    }

    private ActivityListener Listen(string name)
    {
        var listener = new ActivityListener
        {
            ShouldListenTo = source => source.Name == KvDiagnostics.ActivitySourceName,
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData,
            ActivityStopped = activity =>
            {
                if ((string?)activity.GetTagItem("kvcache.name") == name)
                {
                    _ended.Enqueue(activity);
                }
            },
        };
        ActivitySource.AddActivityListener(listener);
        return listener;
    }

    private static KvCacheOptions Options(string name)
    {
        KvCacheOptions options = TestCaches.Config();
        options.Name = name;
        return options;
    }
}
