using KvCacheGpu.Tests.Snapshots;

namespace KvCacheGpu.Tests;

/// <summary>Loads that have to be cut short: by the policy, since the budget does not hold all, and by disposal.</summary>
public sealed class ShortenedLoadTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_policy_may_drop_pages_that_are_sealed_as_they_are_loaded(bool late)
    {
        KvCacheOptions config = TightCaches.Config("lru", new KvFormats(PageFormat.F32, PageFormat.F32), maxSequences: 3);
        using KvCache saving = TestCaches.Simd(G, TestCaches.Config(PageFormat.F32, maxSequences: 3));
        KvSequence saved = saving.CreateSequence();
        saved.FeedMany(1, 200);
        using var capture = new CacheCapture(saving.State);
        Assert.True(saved.State.Gate.EnterNext(default));
        capture.Add(saved.State);
        saved.State.Gate.Leave();
        SnapshotContent content = capture.Content;
        if (late)
        {
            content = content with { PageClasses = new byte[content.PageClasses.Length], PageStates = default };
            content = content with { Sequences = [content.Sequences[0] with { FirstOpenPage = 0 }] };
        }

        SnapshotStore store = LiveCaches.Store();
        await store.SaveAsync("s", content, capture.Read);
        config.MemoryBudgetBytes = TightCaches.MinimumOf(config, (g, c) => TestCaches.Simd(g, c)) + 8192;
        using KvCache cache = TestCaches.Simd(G, config);
        KvRestored restored = cache.Restored(store);
        Assert.InRange(restored.EvictedPages, 1, 1000);
    }

    [Fact]
    public void Dispose_ends_a_load_at_its_next_page()
    {
        KvCacheOptions config = TestCaches.Config(PageFormat.F32, maxTokens: 8192, maxBatchTokens: 256);
        var geometry = new KvGeometry(layers: 4, queryHeads: 4, kvHeads: 2, keyWidth: 64, pageTokens: 16);
        SnapshotStore store = LiveCaches.Store();
        var cache = TestCaches.Simd(geometry, config);
        KvSequence s = cache.CreateSequence();
        s.FeedMany(1, 4096, 256);
        cache.Saved(store);
        Thread? disposing = null;
        int after = 0;
        var progress = new OnReport(() =>
        {
            if (disposing is null)
            {
                disposing = new Thread(cache.Dispose);
                disposing.Start();
                SpinWait.SpinUntil(() => cache.State.IsDisposed);
            }
            else
            {
                after++;
            }
        });
        Exception? e = Record.Exception(() => cache.LoadAsync(store, "s", null, progress).GetAwaiter().GetResult());
        disposing!.Join();
        Assert.IsType<ObjectDisposedException>(e);
        Assert.InRange(after, 0, 1);
    }
}
