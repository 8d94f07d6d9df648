using KvCacheGpu.Tests.Snapshots;

namespace KvCacheGpu.Tests;

/// <summary>Nothing is seen before it is whole: a save of all that live meets no fork, no load and no import half made.</summary>
public sealed class PublicationTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_save_beside_a_thread_that_forks_holds_whole_forks_only(bool reused)
    {
        int[] prompt = [.. Enumerable.Range(40, 90)];
        using KvCache cache = Cache(reused);
        KvSequence hole = cache.CreateSequence();
        if (reused)
        {
            using KvSequence first = cache.CreateSequence();
            first.FeedMany(40, 90);
        }

        KvSequence original = cache.CreateSequence();
        if (reused)
        {
            // What lies in no page of its own is saved by what is listed alone.
            Assert.True(original.Reuse(prompt) > 80);
        }
        else
        {
            original.FeedMany(40, 90);
        }

        // Forks get a place before the original's.
        hole.Dispose();
        using var stop = new CancellationTokenSource();
        var forking = new Thread(() =>
        {
            while (!stop.IsCancellationRequested)
            {
                original.Fork().Dispose();
            }
        });
        forking.Start();
        try
        {
            for (int round = 0; round < 120; round++)
            {
                SnapshotStore store = LiveCaches.Store();
                cache.Saved(store);
                using KvCache other = Cache(reused);
                foreach (KvSequence loaded in other.Restored(store).Sequences)
                {
                    Assert.Equal((original.Length, original.Length), (loaded.Length, loaded.ResidentTokens(1, 1)));
                    Assert.Equal(prompt[..original.Length], loaded.TokenIds.ToArray());
                }
            }
        }
        finally
        {
            stop.Cancel();
            forking.Join();
        }
    }

    [Fact]
    public async Task A_save_beside_a_load_that_is_cancelled_holds_nothing_of_it()
    {
        using KvCache cache = Cache(false);
        KvSequence live = cache.CreateSequence();
        live.FeedMany(7, 30);
        SnapshotStore saved = LiveCaches.Store();
        cache.Saved(saved);
        for (int round = 0; round < 8; round++)
        {
            SnapshotStore beside = LiveCaches.Store();
            using var cancel = new CancellationTokenSource();
            Task<SnapshotInfo>? save = null;
            var progress = new Progress(() =>
            {
                save ??= cache.SaveAsync(beside, "s");

                // So that it is waiting, where it would wait for what is being loaded.
                Thread.Sleep(20);
                cancel.Cancel();
            });
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cache.LoadAsync(saved, "s", null, progress, cancel.Token));
            await save!;
            using KvCache other = Cache(false);
            KvSequence loaded = Assert.Single(other.Restored(beside).Sequences);
            Assert.Equal(live.TokenIds.ToArray(), loaded.TokenIds.ToArray());
        }
    }

    [Fact]
    public async Task A_save_beside_an_import_holds_nothing_of_it_until_it_is_whole()
    {
        string path = Path.GetTempFileName();
        try
        {
            await File.WriteAllBytesAsync(path, TokenFile.Write([.. Enumerable.Range(500, 140)]));
            using KvCache cache = Cache(false);
            using KvSequence there = cache.CreateSequence();
            there.FeedMany(7, 30);
            int saves = 0;
            var progress = new Progress(() =>
            {
                SnapshotStore beside = LiveCaches.Store();
                cache.Saved(beside);
                using KvCache other = Cache(false);
                Assert.Equal(30, Assert.Single(other.Restored(beside).Sequences).Length);
                saves++;
            });
            KvRestored imported = await cache.LoadFileAsync(path, [new TokenFile()], null, progress);
            Assert.True(saves > 2, $"{saves} reports");
            SnapshotStore after = LiveCaches.Store();
            cache.Saved(after);
            using KvCache whole = Cache(false);
            Assert.Equal([30, .. imported.Sequences.Select(sequence => sequence.Length)], whole.Restored(after).Sequences.Select(sequence => sequence.Length));
        }
        finally
        {
            File.Delete(path);
        }
    }

    private static KvCache Cache(bool reuse)
    {
        KvCacheOptions config = TestCaches.Config(PageFormat.I8, maxSequences: 6);
        (config.PrefixReuse, config.PoisonPages) = (reuse, true);
        return TestCaches.Simd(G, config);
    }

    private sealed class Progress(Action reported) : IProgress<SnapshotProgress>
    {
        public void Report(SnapshotProgress value) => reported();
    }
}
