using System.Globalization;
using System.Runtime.Versioning;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Snapshots.Tests;

/// <summary>A store trusts only a directory into which nobody else can put files; and files that were put there do not keep it from saving.</summary>
[SupportedOSPlatform("linux")]
public sealed class TrustTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-trust-").FullName;

    public void Dispose() => Directory.Delete(_folder, true);

    [Theory]
    [InlineData("702", false)]
    [InlineData("777", false)]
    [InlineData("1777", false)]
    [InlineData("700", true)]
    [InlineData("755", true)]
    [InlineData("2775", true)]
    public void A_directory_to_which_everyone_writes_is_refused_unless_the_host_says_so(string mode, bool isTaken)
    {
        string path = Path.Combine(_folder, "store");
        SnapshotSample sample = SnapshotSample.Create(1);
        new SnapshotStore(path, SnapshotSample.Inline).Save("a", sample.Content, sample.Read);
        File.SetUnixFileMode(path, (UnixFileMode)Convert.ToInt32(mode, 8));
        var store = new SnapshotStore(path, SnapshotSample.Inline);
        Assert.All(Uses(sample), use => Check(isTaken, mode, () => use(store)));
        Assert.All(Uses(sample), use => use(new SnapshotStore(path, SnapshotSample.Inline with { AcceptsSharedDirectory = true })));
    }

    [Fact]
    public void Another_users_directory_is_refused_too()
    {
        var disk = new MemoryDisk();
        var store = new MemoryStore(disk);
        SnapshotSample sample = SnapshotSample.Create(1);
        store.Save("a", sample);
        disk.Find(MemoryStore.Path)!.IsForeign = true;
        Assert.All(Uses(sample), use => Check(false, "one of another user", () => use(store.Store)));
        Assert.Equal(sample.Fingerprint, new MemoryStore(disk, SnapshotSample.Inline with { AcceptsSharedDirectory = true }).Load("a"));
        Assert.Equal(0, store.Files.OpenDescriptors);
    }

    [Fact]
    public void Who_owns_a_directory_is_asked_of_the_kernel()
    {
        using var own = new OpenFile(LibcFiles.Instance, LibcFiles.Instance.OpenDirectory(_folder));
        using var roots = new OpenFile(LibcFiles.Instance, LibcFiles.Instance.OpenDirectory("/"));
        Assert.Equal((false, false), (LibcFiles.Instance.IsForeign(own.Descriptor), LibcFiles.Instance.IsForeign(roots.Descriptor)));
    }

    [Theory]
    [InlineData("BLOCKS", 0x7fff_ffff_ffff_ffff, false)]
    [InlineData("MANIFEST", 0x7fff_ffff_ffff_ffff, false)]
    [InlineData("BLOCKS", 0x7fff_ffff_ffff_fffe, false)]
    [InlineData("BLOCKS", 0x7fff_ffff_ffff_ffff, true)]
    [InlineData("MANIFEST", 3, true)]
    public void A_file_of_any_number_does_not_end_saving(string kind, long number, bool isDirectory)
    {
        string path = Path.Combine(_folder, "store");
        var store = new SnapshotStore(path, SnapshotSample.Inline);
        for (int seed = 1; seed <= 2; seed++)
        {
            Assert.Equal(seed, Save(store, seed));
        }

        string planted = Path.Combine(path, string.Create(CultureInfo.InvariantCulture, $"{store.List(default).Single().FileName}.{kind}-{number:x16}"));
        if (isDirectory)
        {
            // It cannot be swept.
            Directory.CreateDirectory(planted);
        }
        else
        {
            File.WriteAllBytes(planted, [1, 2, 3]);
        }

        for (int seed = 3; seed <= 6; seed++)
        {
            Assert.Equal(number == 3 ? seed + 1 : seed, Save(store, seed));
            var target = new KeptTarget();
            Assert.Null(store.Load("a", target, null, default).Notice);
            Assert.Equal(SnapshotSample.Create(seed).Fingerprint, target.Fingerprint);
            Assert.Equal(seed - 1, SeedBefore(store));
        }
    }

    [Fact]
    public void After_the_last_number_of_all_they_begin_again()
    {
        var disk = new MemoryDisk();
        var store = new MemoryStore(disk);
        store.Save("a", SnapshotSample.Create(1));

        // As if it had been saved so often: CURRENT is lost, and its files bear the last number.
        DiskDirectory directory = disk.Find(MemoryStore.Path)!;
        var names = new StoreNames(store.Store.List(default).Single().FileName);
        DiskFile current = directory.Find(names.Current)!;
        current.Replace(new CurrentFile(long.MaxValue, 7).ToBytes());
        Assert.Equal(1, store.Save("b", SnapshotSample.Create(2)).Generation);
        Assert.InRange(store.Save("a", SnapshotSample.Create(3)).Generation, 1, 2);
        Assert.Equal(SnapshotSample.Create(3).Fingerprint, store.Load("a"));
        store.Save("a", SnapshotSample.Create(4));
        Assert.Equal(SnapshotSample.Create(4).Fingerprint, store.Load("a"));
    }

    private static IEnumerable<Action<SnapshotStore>> Uses(SnapshotSample sample) =>
    [
        store => store.Load("a", new KeptTarget(), null, default),
        store => store.List(default),
        store => store.Verify("a", default),
        store => store.Open("a", true, null, default).Dispose(),
        store => store.Save("b", sample.Content, sample.Read),
        store => store.Delete("b", default),
    ];

    private static void Check(bool isTaken, string found, Action use)
    {
        if (isTaken)
        {
            use();
            return;
        }

        KvConfigurationException refused = Assert.Throws<KvConfigurationException>(use);
        Assert.Equal("E003", refused.Code);
        Assert.Contains("chmod o-w", refused.Message, StringComparison.Ordinal);
        Assert.EndsWith(found, refused.Message, StringComparison.Ordinal);
    }

    private static long Save(SnapshotStore store, int seed)
    {
        SnapshotSample sample = SnapshotSample.Create(seed);
        return store.Save("a", sample.Content, sample.Read).Generation;
    }

    // The seed of the generation that stays behind the newest.
    private static int SeedBefore(SnapshotStore store)
    {
        SnapshotVerdict before = store.Verify("a", default).Where(verdict => verdict.Error is null).ElementAt(1);
        return Enumerable.Range(1, 6).Single(seed => before.Generation is var generation && (generation == seed || generation == seed + 1) && IsOf(store, generation, seed));
    }

    private static bool IsOf(SnapshotStore store, long generation, int seed)
    {
        var names = new StoreNames(store.List(default).Single().FileName);
        using StoreFolder folder = StoreFolder.Open(LibcFiles.Instance, store.StorePath, isShared: false);
        using GenerationReader reader = GenerationReader.Open(folder, names, generation, null, SnapshotSample.Inline, default);
        return reader.Content.ModelFingerprint == SnapshotSample.Create(seed).Content.ModelFingerprint;
    }
}
