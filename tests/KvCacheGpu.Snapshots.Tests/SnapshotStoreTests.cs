using KvCacheGpu.TestKit;

namespace KvCacheGpu.Snapshots.Tests;

/// <summary>A store when nothing goes wrong.</summary>
public class SnapshotStoreTests
{
    private readonly MemoryDisk _disk = new();

    [Theory]
    [InlineData(1, 1024)]
    [InlineData(1, 1 << 20)]
    [InlineData(3, 512)]
    public async Task What_was_saved_is_loaded_bit_by_bit(int workers, int blockBytes)
    {
        var store = new MemoryStore(_disk, new SnapshotOptions { Workers = workers, BlockBytes = blockBytes });
        SnapshotSample sample = SnapshotSample.Create(1, tokens: 61);
        SnapshotInfo saved = await store.Store.SaveAsync("a", sample.Content, sample.Read);
        var target = new KeptTarget();
        SnapshotInfo loaded = await store.Store.LoadAsync("a", target);
        Assert.Equal(sample.Fingerprint, target.Fingerprint);
        Assert.Equal(saved, loaded);
        Assert.Equal((1, 1, 3L, 124L), (loaded.Generation, loaded.Version, loaded.Sequences, loaded.Tokens));
        Assert.Null(loaded.Notice);
        using OpenSnapshot open = await store.Store.OpenAsync("a");
        byte[] one = new byte[sample.Content.BytesOf(5)], whole = sample.PageBytes();
        open.Read(5, one);
        int before = Enumerable.Range(0, 5).Sum(sample.Content.BytesOf);
        Assert.Equal(whole[before..(before + one.Length)], one);
        byte[] all = new byte[whole.Length];
        open.Read(0, all);
        Assert.Equal(whole, all);
    }

    [Fact]
    public void Saving_again_makes_a_generation_and_keeps_the_one_before()
    {
        var store = new MemoryStore(_disk);
        foreach (int seed in new[] { 1, 2, 3, 4 })
        {
            Assert.Equal(seed, store.Save("a", SnapshotSample.Create(seed)).Generation);
            Assert.Equal(SnapshotSample.Create(seed).Fingerprint, store.Load("a"));
        }

        Assert.Equal([4, 3], store.Store.Verify("a", default).Select(verdict => verdict.Generation));
        Assert.All(store.Store.Verify("a", default), verdict => Assert.Null(verdict.Error));
        Assert.Equal(6, _disk.Find(MemoryStore.Path)!.Names.Count);
        Assert.Equal(0, store.Files.OpenDescriptors);
    }

    [Fact]
    public void Names_and_tenants_are_kept_apart_whatever_they_are()
    {
        var store = new MemoryStore(_disk);
        SnapshotName[] names =
        [
            "a", "A", new("a", "t"), new("a", ""), new("ta"), new("t", "a"), "..", "../../etc/passwd", "a/b", "a\0b", "a\nb", "CON",
            new(new string('x', 10_000)), "\u00e9", "e\u0301", "LOCK",
        ];
        for (int i = 0; i < names.Length; i++)
        {
            store.Save(names[i], SnapshotSample.Create(i));
        }

        for (int i = 0; i < names.Length; i++)
        {
            Assert.Equal(SnapshotSample.Create(i).Fingerprint, store.Load(names[i]));
        }

        Assert.Equal(names.ToHashSet(), store.Store.List(default).Select(info => info.Name!.Value).ToHashSet());
        Assert.All(_disk.Find(MemoryStore.Path)!.Names, name => Assert.Matches("^(LOCK|[0-9a-f]{64}\\.(CURRENT|(MANIFEST|BLOCKS)-[0-9a-f]{16}))$", name));
    }

    [Fact]
    public void A_deleted_snapshot_is_gone_and_others_are_not()
    {
        var store = new MemoryStore(_disk);
        store.Save("a", SnapshotSample.Create(1));
        store.Save("b", SnapshotSample.Create(2));
        store.Store.Delete("a", default);
        Assert.Null(store.Load("a"));
        Assert.Equal(SnapshotSample.Create(2).Fingerprint, store.Load("b"));
        Assert.Throws<KvSnapshotNotFoundException>(() => store.Store.Delete("a", default));
        Assert.Equal("E002", Assert.Throws<KvSnapshotNotFoundException>(() => store.Store.Verify("a", default)).Code);
        Assert.Equal(4, _disk.Find(MemoryStore.Path)!.Names.Count);
    }

    [Fact]
    public void A_backup_restores_into_another_store_and_over_newer_generations()
    {
        var store = new MemoryStore(_disk);
        store.Save("a", SnapshotSample.Create(1));
        store.Save(new("b", "t"), SnapshotSample.Create(2));
        var backup = new SnapshotStore("/backup", SnapshotSample.Inline, store.Files);
        Assert.Equal(2, backup.CopyFrom(store.Store, null, default).Count);
        store.Save("a", SnapshotSample.Create(3));
        store.Save("c", SnapshotSample.Create(4));
        Assert.Equal(2, store.Store.Restore(backup, null, default).Count);
        Assert.Equal(SnapshotSample.Create(1).Fingerprint, store.Load("a"));
        Assert.Equal(SnapshotSample.Create(2).Fingerprint, store.Load(new("b", "t")));
        Assert.Equal(SnapshotSample.Create(4).Fingerprint, store.Load("c"));
        Assert.Equal(3, store.Store.List(default).Single(info => info.Name == "a").Generation);
        Assert.Equal(0, store.Files.OpenDescriptors);
    }

    [Fact]
    public void A_bad_generation_gives_way_to_the_one_before_and_that_is_said()
    {
        foreach (string part in new[] { "BLOCKS-0000000000000002", "MANIFEST-0000000000000002" })
        {
            var disk = new MemoryDisk();
            var store = new MemoryStore(disk);
            store.Save("a", SnapshotSample.Create(1));
            store.Save("a", SnapshotSample.Create(2));
            DiskFile file = disk.Find(MemoryStore.Path)!.Find(disk.Find(MemoryStore.Path)!.Names.Single(name => name.EndsWith(part, StringComparison.Ordinal)))!;
            file.Write([0xFF, 0, 0xFF], file.Length - 40);
            (string fingerprint, string? notice) = store.LoadWithNotice("a")!.Value;
            Assert.Equal(SnapshotSample.Create(1).Fingerprint, fingerprint);
            Assert.Contains("generation 1, because E004", notice, StringComparison.Ordinal);
            Assert.Equal("E004", store.Store.Verify("a", default)[0].Error!.Code);
            store.Save("a", SnapshotSample.Create(3));
            Assert.Equal(SnapshotSample.Create(3).Fingerprint, store.Load("a"));
            Assert.Equal(part.StartsWith('M') ? 1 : 2, store.Store.Verify("a", default)[1].Generation);
        }
    }

    [Fact]
    public void Without_any_good_generation_it_is_corruption_and_nothing_was_published()
    {
        var store = new MemoryStore(_disk);
        store.Save("a", SnapshotSample.Create(1));
        DiskDirectory directory = _disk.Find(MemoryStore.Path)!;
        DiskFile blocks = directory.Find(directory.Names.Single(name => name.Contains("BLOCKS", StringComparison.Ordinal)))!;
        blocks.Write([1, 2, 3], blocks.Length - 3);
        var target = new KeptTarget();
        Assert.Equal("E004", Assert.Throws<KvCorruptionException>(() => store.Store.Load("a", target, null, default)).Code);
        Assert.Equal((false, 1), (target.IsComplete, target.Abandoned));
        Assert.NotNull(store.Store.List(default).Single().Name);
        Assert.Equal(0, store.Files.OpenDescriptors);
    }

    [Fact]
    public async Task A_cancelled_save_leaves_all_as_it_was()
    {
        var store = new MemoryStore(_disk, new SnapshotOptions { Workers = 2, BlockBytes = 512 });
        SnapshotSample sample = SnapshotSample.Create(1, tokens: 61);
        await store.Store.SaveAsync("a", sample.Content, sample.Read);
        int reports = 0;
        await store.Store.SaveAsync("b", sample.Content, sample.Read, new Reports(_ => reports++));
        string[] before = [.. _disk.Find(MemoryStore.Path)!.Names.Order()];
        for (int at = 1; at <= reports; at++)
        {
            using var cancel = new CancellationTokenSource();
            var progress = new Reports(count => _ = count == at ? cancel.CancelAsync() : null);
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => store.Store.SaveAsync("a", sample.Content, sample.Read, progress, cancel.Token));
            Assert.Equal(before, _disk.Find(MemoryStore.Path)!.Names.Order());
        }

        Assert.Equal(0, store.Files.OpenDescriptors);
    }

    [Fact]
    public async Task Contents_that_do_not_hold_together_are_refused()
    {
        var store = new MemoryStore(_disk);
        SnapshotContent good = SnapshotSample.Create(1).Content;
        SnapshotSequence first = good.Sequences[0];
        SnapshotContent[] bad =
        [
            good with { LayerClasses = [1] },
            good with { LayerClasses = [8, 8] },
            good with { PageClasses = new byte[3] },
            good with { PageClasses = Enumerable.Repeat((byte)3, good.Pages).ToArray() },
            good with { PageStates = new byte[1] },
            good with { Sequences = [first, first] },
            good with { Sequences = [first with { FirstOpenPage = 99 }] },
            good with { Sequences = [first with { RowStarts = (int[])[0, 1] }] },
            good with { Sequences = [first with { Ordinals = first.Ordinals[1..] }] },
            good with { Sequences = [first with { Ordinals = Enumerable.Repeat(-1, first.Entries).ToArray() }] },
            good with { Sequences = [first with { PageIndexes = new int[first.Entries] }] },
            good with { Sequences = [first with { Scores = [new("mass", new float[1])] }] },
        ];
        foreach (SnapshotContent content in bad)
        {
            await Assert.ThrowsAsync<ArgumentException>(() => store.Store.SaveAsync("a", content, (_, _) => { }));
        }

        await Assert.ThrowsAsync<ArgumentException>(() => store.Store.SaveAsync("", good, (_, _) => { }));
        await Assert.ThrowsAsync<ArgumentException>(() => store.Store.SaveAsync(new string('x', 70_000), good, (_, _) => { }));
    }

    [Fact]
    public void A_page_reader_that_throws_leaves_all_as_it_was()
    {
        var store = new MemoryStore(_disk);
        store.Save("a", SnapshotSample.Create(1));
        SnapshotContent content = SnapshotSample.Create(2).Content;
        Assert.Throws<NotSupportedException>(() => store.Store.Save("a", content, (_, _) => throw new NotSupportedException()));
        Assert.Equal(SnapshotSample.Create(1).Fingerprint, store.Load("a"));
        Assert.Equal(4, _disk.Find(MemoryStore.Path)!.Names.Count);
    }

    private sealed class Reports(Action<int> report) : IProgress<SnapshotProgress>
    {
        private int _count;

        public void Report(SnapshotProgress value) => report(++_count);
    }
}
