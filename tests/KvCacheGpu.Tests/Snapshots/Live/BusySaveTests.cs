namespace KvCacheGpu.Tests.Snapshots;

/// <summary>Saving while others go on: each sequence is saved as it was between two of its steps, and nobody loses a page.</summary>
public sealed class BusySaveTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Threads_append_evict_fork_and_cut_while_all_is_saved(bool evicts)
    {
        KvCacheOptions config = TestCaches.Config(PageFormat.I8, maxTokens: 1024, maxSequences: 8);
        (config.PoisonPages, config.Policy) = (true, evicts ? new SlidingOnly(new WindowPolicy(6, 2)) : null);
        using KvCache cache = TestCaches.Simd(G, config);
        KvSequence[] walking = [cache.CreateSequence(), cache.CreateSequence()];
        using var stop = new CancellationTokenSource();
        Thread[] threads = [.. walking.Select((sequence, i) => new Thread(() => Walk(sequence, i, stop.Token)))];
        Array.ForEach(threads, thread => thread.Start());
        int checkedSequences = 0;
        try
        {
            for (int round = 0; round < 25; round++)
            {
                SnapshotStore store = LiveCaches.Store();
                cache.Saved(store, "s", walking);
                using KvCache other = TestCaches.Simd(G, config);
                foreach (KvSequence restored in other.Restored(store).Sequences)
                {
                    CheckIsAWalk(restored);
                    checkedSequences++;
                }
            }
        }
        finally
        {
            stop.Cancel();
            Array.ForEach(threads, thread => thread.Join());
        }

        Assert.Equal(50, checkedSequences);
        Array.ForEach(walking, sequence => sequence.Dispose());
        Assert.Equal(default, cache.GetPageCounts());
    }

    [Fact]
    public async Task A_sequence_disposed_while_it_streams_is_saved_whole_and_its_pages_go_afterwards()
    {
        using KvCache cache = TestCaches.Simd(G, LiveCaches.Config(new KvFormats(PageFormat.I8, PageFormat.I8)));
        KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 40);
        string before = LiveCaches.Transcript([sequence]);
        SnapshotStore store = LiveCaches.Store();
        using (CaptureOf(cache, sequence, out SnapshotContent content, out SnapshotPageReader read))
        {
            sequence.Dispose();
            using (KvSequence other = cache.CreateSequence())
            {
                // Would write into the pages, were they free.
                other.FeedMany(500, 60);
            }

            await store.SaveAsync("s", content, read);
        }

        Assert.Equal(default, cache.GetPageCounts());
        Assert.Equal(before, LiveCaches.Transcript(cache.Restored(store).Sequences));
    }

    [Fact]
    public async Task A_cache_disposed_while_it_streams_fails_the_save_and_keeps_the_snapshot_before()
    {
        KvCache cache = TestCaches.Simd(G, LiveCaches.Config(new KvFormats(PageFormat.I8, PageFormat.I8)));
        KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 40);
        SnapshotStore store = LiveCaches.Store();
        cache.Saved(store);
        using (CaptureOf(cache, sequence, out SnapshotContent content, out SnapshotPageReader read))
        {
            cache.Dispose();
            await Assert.ThrowsAsync<ObjectDisposedException>(() => store.SaveAsync("s", content, read));
        }

        using KvCache other = TestCaches.Simd(G, LiveCaches.Config(new KvFormats(PageFormat.I8, PageFormat.I8)));
        Assert.Equal(1, other.Restored(store).Snapshot!.Generation);
    }

    private static CacheCapture CaptureOf(KvCache cache, KvSequence sequence, out SnapshotContent content, out SnapshotPageReader read)
    {
        var capture = new CacheCapture(cache.State);
        Assert.True(sequence.State.Gate.EnterNext(default));
        capture.Add(sequence.State);
        sequence.State.Gate.Leave();
        (content, read) = (capture.Content, capture.Read);
        return capture;
    }

    // Ids count up from a start; cuts go back on them, so that a length says all of the content.
    private static void Walk(KvSequence sequence, int seed, CancellationToken stop)
    {
        var random = new Random(seed);
        while (!stop.IsCancellationRequested)
        {
            if (sequence.Length > 80)
            {
                sequence.Truncate(random.Next(8));
            }

            sequence.FeedMany(sequence.Length + 1, 1 + random.Next(9));
            if (random.Next(4) == 0)
            {
                using KvSequence fork = sequence.Fork();
                fork.FeedMany(900, 3);
            }
        }
    }

    private static void CheckIsAWalk(KvSequence restored)
    {
        Assert.Equal(Enumerable.Range(1, restored.Length), restored.TokenIds.ToArray());
        KvGeometry g = restored.Cache.Geometry;
        for (int layer = 0; layer < g.Layers; layer++)
        {
            for (int head = 0; head < g.KvHeads; head++)
            {
                int[] positions = new int[restored.ResidentTokens(layer, head)];
                restored.ResidentPositions(layer, head, positions);
                float[] keys = new float[positions.Length * g.KeyWidth];
                restored.Materialize(layer, head, keys, []);
                float[] all = TokenContent.Keys(g, layer, restored.TokenIds.ToArray());
                for (int i = 0; i < positions.Length; i++)
                {
                    ReadOnlySpan<float> expected = all.AsSpan(((positions[i] * g.KvHeads) + head) * g.KeyWidth, g.KeyWidth);
                    for (int e = 0; e < g.KeyWidth; e++)
                    {
                        Assert.Equal(expected[e], keys[(i * g.KeyWidth) + e], 0.1);
                    }
                }
            }
        }
    }
}
