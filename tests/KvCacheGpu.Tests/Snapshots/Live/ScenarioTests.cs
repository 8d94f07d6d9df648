using System.Buffers.Binary;
using System.IO.Hashing;
using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.Tests.Snapshots;

/// <summary>Scenarios 21 to 24 of the paging scenarios, on what a cache saves.</summary>
public sealed class ScenarioTests(ITestOutputHelper output)
{
    [Fact]
    public void S21_what_is_cut_is_reported_deleted_and_then_a_miss_and_the_rest_loads()
    {
        // The published check value of the hash that guards every file.
        Assert.Equal("99AA06D3014798D86001C324468D497F", $"{XxHash128.HashToUInt128([]):X32}");
        var (disk, store) = Saved("1", "2", "3");
        DiskFile third = Part(disk, "3", "BLOCKS");
        third.Replace(third.ToArray()[..(int)(third.Length / 2)]);
        Assert.Equal(["1", "2"], LoadableOf(store.Store));
        Assert.Equal("E004", Assert.Single(store.Store.Verify("3", default)).Error!.Code);
        store.Store.Delete("3", default);
        Assert.DoesNotContain(Names(disk), name => name.StartsWith(HashOf("3"), StringComparison.Ordinal));
        using KvCache cache = TestCaches.Simd(TestCaches.Tiny, TestCaches.Config());
        Assert.Equal("E002", Assert.Throws<KvSnapshotNotFoundException>(() => cache.Restored(store.Store, "3")).Code);
    }

    [Fact]
    public void S21_another_byte_in_a_file_of_the_same_size_is_caught()
    {
        var (disk, store) = Saved("1", "2");
        foreach (string part in new[] { "MANIFEST", "BLOCKS" })
        {
            DiskFile file = Part(disk, "2", part);
            file.Flip((file.Length * 8) - 1);
            Assert.Equal(["1"], LoadableOf(store.Store));
            file.Flip((file.Length * 8) - 1);
            Assert.Equal(["1", "2"], LoadableOf(store.Store));
        }
    }

    [Fact]
    public void S21_an_error_that_passes_deletes_nothing()
    {
        var (disk, store) = Saved("1");
        string[] names = Names(disk);
        byte[][] before = [.. names.Select(name => Folder(disk).Find(name)!.ToArray())];
        int fired = 0;
        for (int at = 1; ; at++)
        {
            var failing = new MemoryStore(disk);
            (failing.Files.FailAt, failing.Files.Fault) = (at, Fault.InputOutput);
            bool loaded = LoadableOf(failing.Store, "1").Count == 1;
            Assert.Equal(names, Names(disk));
            Assert.All(names.Zip(before), pair => Assert.Equal(pair.Second, Folder(disk).Find(pair.First)!.ToArray()));
            if (failing.Files.Operations < at)
            {
                Assert.True(loaded);
                break;
            }

            fired += failing.Files.Fired;
        }

        FaultTally.Report(output, "operations of loading", fired, 10);
        Assert.Equal(["1"], LoadableOf(store.Store));
    }

    [Fact]
    public void S21_the_checksum_is_there_and_synced_before_the_name_is()
    {
        using KvCache cache = TestCaches.Simd(TestCaches.Tiny, TestCaches.Config());
        cache.CreateSequence().FeedMany(1, 20);
        var disk = new MemoryDisk();
        var store = new MemoryStore(disk);
        int seen = 0;
        store.Files.Before = () =>
        {
            foreach (string name in disk.Find(MemoryStore.Path) is null ? [] : Names(disk))
            {
                if (name == "LOCK" || name.EndsWith(".tmp", StringComparison.Ordinal))
                {
                    continue;
                }

                DiskFile file = Folder(disk).Find(name)!;
                Assert.False(file.HasUnsynced, name);
                if (!name.Contains("BLOCKS", StringComparison.Ordinal))
                {
                    byte[] bytes = file.ToArray();
                    Assert.Equal(XxHash128.HashToUInt128(bytes.AsSpan(0, bytes.Length - 16)), BinaryPrimitives.ReadUInt128LittleEndian(bytes.AsSpan(bytes.Length - 16)));
                    seen++;
                }
            }
        };
        cache.Saved(store.Store);
        Assert.InRange(seen, 2, 1000);
    }

    [Theory]
    [InlineData(nameof(Fault.InputOutput))]
    [InlineData(nameof(Fault.Dead))]
    [InlineData(nameof(Fault.NoSpace))]
    public void S24_a_store_that_fails_is_never_visible(string name)
    {
        Fault fault = Enum.Parse<Fault>(name);
        using KvCache cache = TestCaches.Simd(TestCaches.Tiny, TestCaches.Config());
        cache.CreateSequence().FeedMany(1, 20);
        int refused = 0;
        for (int at = 1; ; at++)
        {
            var disk = new MemoryDisk();
            var store = new MemoryStore(disk);
            (store.Files.FailAt, store.Files.Fault) = (at, fault);
            KvPersistenceException? error = null;
            try
            {
                cache.Saved(store.Store);
            }
            catch (KvPersistenceException thrown)
            {
                error = thrown;
            }

            bool isVisible = LoadableOf(new MemoryStore(disk).Store, "s").Count == 1;
            Assert.True(error is { OutcomeUnknown: true } || isVisible == (error is null), $"{fault} at {at}: {error?.Message}");
            refused += isVisible ? 0 : 1;
            if (store.Files.Operations < at)
            {
                break;
            }
        }

        FaultTally.Report(output, $"saves refused by {fault}", refused, 10);
    }

    [Fact]
    public void S24_a_page_that_was_taken_and_never_filled_is_never_a_hit()
    {
        KvCacheOptions config = TestCaches.Config(PageFormat.I8);
        config.PrefixReuse = true;
        using KvCache saving = TestCaches.Simd(TestCaches.Tiny, config);
        KvSequence saved = saving.CreateSequence();
        saved.FeedMany(1, 40);
        int[] prompt = saved.TokenIds.ToArray();
        var disk = new MemoryDisk();
        var store = new MemoryStore(disk);
        saving.Saved(store.Store);
        using KvCache cache = TestCaches.Simd(TestCaches.Tiny, config);
        var asking = new OnReport(() => Assert.Equal(0, HitsOf(cache, prompt)));

        // The last page is bad: all others were filled, and none is listed.
        DiskFile blocks = Part(disk, "s", "BLOCKS");
        blocks.Flip((blocks.Length * 8) - 1);
        Assert.Throws<KvCorruptionException>(() => Load(cache, store.Store, asking));
        Assert.InRange(asking.Reports, 2, 1000);
        Assert.Equal(0, HitsOf(cache, prompt));
        blocks.Flip((blocks.Length * 8) - 1);

        using (KvSequence walking = cache.CreateSequence())
        {
            using (KvStep step = walking.Begin(prompt.AsSpan(0, 32)))
            {
                Assert.Equal(0, HitsOf(cache, prompt));
                TestCaches.AppendAll(step, TestCaches.Tiny, prompt.AsSpan(0, 32));
                Assert.Equal(0, HitsOf(cache, prompt));
            }

            Assert.Equal(0, HitsOf(cache, prompt));
        }

        Assert.Equal(default, cache.GetPageCounts());
        Load(cache, store.Store, asking);
        Assert.InRange(HitsOf(cache, prompt), 32, 39);
    }

    private static void Load(KvCache cache, SnapshotStore store, IProgress<SnapshotProgress> progress) =>
        cache.LoadNow(store, "s", progress);

    private static int HitsOf(KvCache cache, int[] prompt)
    {
        using KvSequence sequence = cache.CreateSequence();
        return sequence.Reuse(prompt);
    }

    private static (MemoryDisk Disk, MemoryStore Store) Saved(params string[] names)
    {
        using KvCache cache = TestCaches.Simd(TestCaches.Tiny, TestCaches.Config());
        cache.CreateSequence().FeedMany(1, 20);
        var disk = new MemoryDisk();
        var store = new MemoryStore(disk);
        Array.ForEach(names, name => cache.Saved(store.Store, name));
        return (disk, store);
    }

    // Which of the names a fresh cache loads.
    private static List<string> LoadableOf(SnapshotStore store, params string[] names)
    {
        using KvCache cache = TestCaches.Simd(TestCaches.Tiny, TestCaches.Config());
        var loaded = new List<string>();
        foreach (string name in names.Length == 0 ? ["1", "2", "3"] : names)
        {
            try
            {
                cache.Restored(store, name).Sequences[0].Dispose();
                loaded.Add(name);
            }
            catch (KvCacheException error)
            {
                Assert.Contains(error.Code, new[] { "E002", "E004", "E005" });
            }
        }

        return loaded;
    }

    private static DiskDirectory Folder(MemoryDisk disk) => disk.Find(MemoryStore.Path)!;

    private static string[] Names(MemoryDisk disk) => [.. Folder(disk).Names];

    private static string HashOf(string name) => StoreNames.Of(new SnapshotName(name)).Hash;

    private static DiskFile Part(MemoryDisk disk, string name, string part) =>
        Folder(disk).Find(Names(disk).Single(file => file.StartsWith($"{HashOf(name)}.{part}", StringComparison.Ordinal)))!;
}
