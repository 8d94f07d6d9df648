namespace KvCacheGpu.Tests.Snapshots;

/// <summary>Whatever page size a snapshot comes from, what is loaded is sealed as if its tokens had been appended here, and steps on for ever.</summary>
public sealed class RestoredShapeTests
{
    private static readonly KvFormats[] Formats =
    [
        new(PageFormat.F32, PageFormat.F32), new(PageFormat.F16, PageFormat.F16), new(PageFormat.I8, PageFormat.I8), new(PageFormat.T4, PageFormat.V4),
        new(PageFormat.T2, PageFormat.V2), new(PageFormat.I8, PageFormat.F16),
    ];

    [Theory]
    [InlineData(128, 4, 4, 1)]
    [InlineData(96, 8, 8, 2)]
    [InlineData(60, 7, 3, 1)]
    [InlineData(48, 4, 32, 6)]
    [InlineData(4, 48, 5, 2)]
    [InlineData(9, 8, 1, 1)]
    public void A_sequence_of_other_pages_steps_on_and_nothing_leaks(int from, int to, int batch, int sequences)
    {
        foreach (KvFormats formats in Formats)
        {
            using KvCache saving = Cache(from, formats, 24, 2);
            KvSequence saved = saving.CreateSequence();
            saved.FeedMany(1, Math.Min(380, (3 * from) - 1), 24);
            using KvCache cache = Cache(to, formats, batch, sequences);
            KvSequence loaded = Load(saving, cache);
            using KvCache twin = Cache(to, formats, batch, sequences);
            KvSequence appended = twin.CreateSequence();
            appended.FeedMany(1, saved.Length, batch);
            CheckShape(appended, loaded, to);
            for (int step = 0; step < 24; step++)
            {
                int[] ids = [.. Enumerable.Range(1000 + (step * batch), 1 + (step % batch))];
                loaded.Feed(ids);
                appended.Feed(ids);
                CheckShape(appended, loaded, to);
                Assert.Equal(twin.AllocatedBytes, cache.AllocatedBytes);
                if (loaded.Length > 440)
                {
                    break;
                }
            }

            loaded.Dispose();
            Assert.Equal(default, cache.GetPageCounts());
            Assert.Equal(cache.State.Pool.SlabCount, cache.State.Pool.FreeSlabs);
        }
    }

    [Fact]
    public void Cut_forked_and_grown_on_the_way_it_is_no_other()
    {
        var random = new Random(20260203);
        for (int round = 0; round < 60; round++)
        {
            (int from, int to) = (random.Next(2, 50), random.Next(2, 50));
            KvFormats formats = Formats[random.Next(Formats.Length)];
            using KvCache saving = Cache(from, formats, 1 + random.Next(30), 3);
            KvSequence saved = saving.CreateSequence();
            for (int turn = random.Next(1, 4); turn > 0; turn--)
            {
                saved.FeedMany(1 + saved.Length, random.Next(1, 140), saving.State.Options.MaxBatchTokens);
                saved.Truncate(saved.Length - random.Next(Math.Min(saved.Length, 60)));
            }

            int batch = 1 + random.Next(30);
            using KvCache cache = Cache(to, formats, batch, 3);
            KvSequence loaded = Load(saving, cache);
            int sealedAt = cache.State.Classes.Seals.FirstOpen(loaded.Length);
            Assert.InRange(loaded.State.Table.FirstOpen, sealedAt, (loaded.Length + (from == to ? to - 1 : 0)) / to);
            using KvSequence fork = loaded.Fork();
            for (int step = 0; step < 6; step++)
            {
                KvSequence next = random.Next(2) == 0 ? loaded : fork;
                next.FeedMany(1 + next.Length, 1 + random.Next(3 * to), batch);
                if (random.Next(3) == 0)
                {
                    next.Truncate(next.Length - random.Next(Math.Min(next.Length, 3 * to)));
                }

                if (next.Length > 900)
                {
                    next.Truncate(1);
                }

                Assert.Equal(Enumerable.Range(1, next.Length), next.TokenIds.ToArray());
                Assert.Equal(next.Length, next.ResidentTokens(1, 0));
            }

            fork.Dispose();
            loaded.Dispose();
            Assert.Equal(default, cache.GetPageCounts());
        }
    }

    [Fact]
    public async Task A_snapshot_of_a_writer_that_sealed_nothing_is_sealed_when_it_is_loaded()
    {
        using KvCache saving = Cache(4, new KvFormats(PageFormat.F32, PageFormat.F32), 24, 2);
        KvSequence saved = saving.CreateSequence();
        saved.FeedMany(1, 83);
        using var capture = new CacheCapture(saving.State);
        Assert.True(saved.State.Gate.EnterNext(default));
        capture.Add(saved.State);
        saved.State.Gate.Leave();
        SnapshotContent content = capture.Content with { PageClasses = new byte[capture.Content.PageClasses.Length], PageStates = default };
        content = content with { Sequences = [content.Sequences[0] with { FirstOpenPage = 0 }] };
        SnapshotStore store = LiveCaches.Store();
        await store.SaveAsync("s", content, capture.Read);
        foreach (KvFormats formats in Formats)
        {
            using KvCache cache = Cache(4, formats, 2, 1);
            KvSequence loaded = cache.Restored(store).Sequences[0];
            using KvCache twin = Cache(4, formats, 2, 1);
            KvSequence appended = twin.CreateSequence();
            appended.FeedMany(1, 83, 2);
            CheckShape(appended, loaded, 4);
            loaded.FeedMany(500, 30, 2);
            appended.FeedMany(500, 30, 2);
            CheckShape(appended, loaded, 4);
            Assert.Equal(twin.AllocatedBytes, cache.AllocatedBytes);
        }
    }

    private static void CheckShape(KvSequence appended, KvSequence loaded, int pageTokens)
    {
        Assert.Equal(appended.Length, loaded.Length);
        bool wasLarger = loaded.State.Table.FirstOpen > appended.State.Table.FirstOpen;
        Assert.InRange(loaded.State.Table.FirstOpen, appended.State.Table.FirstOpen, loaded.Length / pageTokens);
        for (int row = 0; row < appended.State.Table.Rows; row++)
        {
            Assert.Equal(appended.State.Table.Count(row), loaded.State.Table.Count(row));
            for (int entry = 0; entry < loaded.State.Table.Count(row); entry++)
            {
                Assert.True(wasLarger || appended.State.Table.PageClass(row, entry) == loaded.State.Table.PageClass(row, entry), $"row {row}, entry {entry}");
                Assert.Equal(loaded.State.Table.IsSealed(row, entry), loaded.Cache.State.Pool.IsSealed(loaded.State.Table.Slot(row, entry)));
            }
        }
    }

    private static KvSequence Load(KvCache saving, KvCache cache)
    {
        SnapshotStore store = LiveCaches.Store();
        saving.Saved(store);
        return cache.Restored(store).Sequences[0];
    }

    private static KvCache Cache(int pageTokens, KvFormats formats, int batch, int sequences)
    {
        KvCacheOptions config = TestCaches.Config(formats);
        (config.MaxTokens, config.MaxBatchTokens, config.MaxSequences, config.PoisonPages) = (1024, batch, sequences, true);
        return TestCaches.Simd(new KvGeometry(layers: 2, queryHeads: 4, kvHeads: 2, keyWidth: 8, pageTokens: pageTokens), config);
    }
}
