using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.Tests.Snapshots;

/// <summary>A load that is refused, fails or is cancelled leaves no trace: live state is what it was, bit for bit, and so is what follows.</summary>
public sealed class RefusedLoadTests(ITestOutputHelper output)
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Theory]
    [InlineData("model", "E003")]
    [InlineData("geometry", "E003")]
    [InlineData("sequences", "E001")]
    [InlineData("tokens", "E001")]
    [InlineData("budget", "E001")]
    [InlineData("nothing", "E002")]
    [InlineData("corrupt", "E004")]
    public void What_is_refused_leaves_no_trace(string what, string code)
    {
        KvCacheOptions config = Config();
        using KvCache saving = TestCaches.Simd(what == "geometry" ? new KvGeometry(1, 4, 2, 8, pageTokens: 4) : G, Changed(Config(), what));
        var disk = new MemoryDisk();
        var store = new MemoryStore(disk);
        KvSequence[] sequences = [.. Enumerable.Range(0, what == "sequences" ? 4 : 1).Select(_ => saving.CreateSequence())];
        for (int i = 0; i < sequences.Length; i++)
        {
            sequences[i].FeedMany(1 + i, what is "tokens" or "budget" ? 120 : 20);
        }

        saving.Saved(store.Store);
        Array.ForEach(sequences, sequence => sequence.Dispose());
        if (what == "corrupt")
        {
            DiskDirectory folder = disk.Find(MemoryStore.Path)!;
            DiskFile blocks = folder.Find(folder.Names.Single(name => name.Contains("BLOCKS", StringComparison.Ordinal)))!;
            blocks.Flip(blocks.Length * 4);
        }

        if (what == "tokens")
        {
            config.MaxTokens = 64;
        }

        if (what == "budget")
        {
            config.MemoryBudgetBytes = TightCaches.MinimumOf(config, (g, c) => TestCaches.Simd(g, c)) + 4096;
        }

        using KvCache cache = TestCaches.Simd(G, config);
        using KvCache twin = TestCaches.Simd(G, config);
        KvSequence[] live = [Live(cache), Live(twin)];
        string before = cache.Everything(live[0]);
        KvCacheException error = Assert.ThrowsAny<KvCacheException>(() => cache.Restored(store.Store, what == "nothing" ? "other" : "s"));
        Assert.Equal(code, error.Code);
        Assert.Equal(before, cache.Everything(live[0]));
        Assert.Equal(LiveCaches.GoOn([live[1]], 6), LiveCaches.GoOn([live[0]], 6));
        Assert.Equal(twin.Everything(live[1]), cache.Everything(live[0]));
    }

    [Fact]
    public void A_disk_that_fails_at_any_operation_leaks_no_page_whether_saving_or_loading()
    {
        using KvCache cache = TestCaches.Simd(G, Config());
        KvSequence live = Live(cache);
        var disk = new MemoryDisk();
        cache.Saved(new MemoryStore(disk).Store);
        string before = cache.Everything(live);
        int fired = 0;
        foreach (bool isSave in new[] { true, false })
        {
            for (int at = 1; ; at++)
            {
                var store = new MemoryStore(disk.Copy());
                (store.Files.FailAt, store.Files.Fault) = (at, Fault.InputOutput);
                try
                {
                    if (isSave)
                    {
                        cache.Saved(store.Store);
                    }
                    else
                    {
                        cache.Restored(store.Store).Sequences[0].Dispose();
                    }
                }
                catch (KvCacheException)
                {
                    // Whether it was done or not, nothing may stay behind.
                }

                Assert.Equal(before, cache.Everything(live));
                if (store.Files.Operations < at)
                {
                    break;
                }

                fired += store.Files.Fired;
            }
        }

        FaultTally.Report(output, "operations of a cache's saving and loading", fired, 20);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Cancelled_at_any_report_nothing_stays(bool isSave)
    {
        using KvCache cache = TestCaches.Simd(G, Config());
        KvSequence live = Live(cache);
        SnapshotStore store = LiveCaches.Store();
        cache.Saved(store);
        string before = cache.Everything(live);
        int cancelled = 0;
        for (int at = 0; ; at++)
        {
            using var source = new CancellationTokenSource();
            var progress = new CancelAt(source, at);
            if (at == 0)
            {
                await source.CancelAsync();
            }

            try
            {
                if (isSave)
                {
                    await cache.SaveAsync(store, "s", null, progress, source.Token);
                }
                else
                {
                    KvRestored restored = await cache.LoadAsync(store, "s", null, progress, source.Token);
                    restored.Sequences[0].Dispose();
                }
            }
            catch (OperationCanceledException)
            {
                cancelled++;
            }

            Assert.Equal(before, cache.Everything(live));
            if (!source.IsCancellationRequested)
            {
                break;
            }
        }

        Assert.True(cancelled > 1, $"cancelled {cancelled} times");
    }

    [Fact]
    public void A_policy_makes_what_is_loaded_fit_and_takes_nothing_of_what_lives()
    {
        KvCacheOptions config = TightCaches.Config("h2o", new KvFormats(PageFormat.I8, PageFormat.I8), maxSequences: 3);
        using KvCache saving = TestCaches.Simd(G, config);
        KvSequence saved = saving.CreateSequence();
        LiveCaches.GoOn([saved], 100);
        saved.Pin(40, 4);
        SnapshotStore store = LiveCaches.Store();
        saving.Saved(store);
        config.MaxSequenceTokens = 120;
        config.MemoryBudgetBytes = TightCaches.MinimumOf(config, (g, c) => TestCaches.Simd(g, c)) + 8192;
        using KvCache cache = TestCaches.Simd(G, config);
        KvSequence live = cache.CreateSequence();
        live.FeedMany(1, 10);
        string before = LiveCaches.Transcript([live]);
        KvRestored restored = cache.Restored(store);
        Assert.InRange(restored.EvictedPages, 1, 1000);
        Assert.False(restored.IsExact);
        Assert.Contains(restored.Notes, note => note.Contains("the policy dropped", StringComparison.Ordinal));
        Assert.True(restored.Sequences[0].EvictedTokens > 0);
        Assert.True(restored.Sequences[0].Holds(40, 44) && restored.Sequences[0].Holds(0, 2) && restored.Sequences[0].Holds(94, 100));
        Assert.Equal(before, LiveCaches.Transcript([live]));
        Assert.InRange(cache.AllocatedBytes, 1, cache.BudgetBytes);
        restored.Sequences[0].CheckedStep(7);
    }

    private static KvSequence Live(KvCache cache)
    {
        KvSequence live = cache.CreateSequence();
        live.FeedMany(1, 11, 3);
        live.Pin(2, 3);
        return live;
    }

    private static KvCacheOptions Config() => new()
    {
        Device = "cpu",
        MaxTokens = 256,
        MaxSequences = 4,
        MaxBatchTokens = 32,
        KeyFormat = PageFormat.I8,
        ValueFormat = PageFormat.I8,
        ModelFingerprint = "this",
        ExactRollbackTokens = 4,
        PoisonPages = true,
    };

    private static KvCacheOptions Changed(KvCacheOptions config, string what)
    {
        config.ModelFingerprint = what == "model" ? "another" : "this";
        return config;
    }

    private sealed class CancelAt(CancellationTokenSource source, int at) : IProgress<SnapshotProgress>
    {
        private int _reports;

        public void Report(SnapshotProgress value)
        {
            if (++_reports == at)
            {
                source.Cancel();
            }
        }
    }
}
