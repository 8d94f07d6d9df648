using System.Security.Cryptography;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Snapshots.Tests;

/// <summary>
/// Files of every version, committed once and never again: what was saved then loads now, and version 1 is written to the byte. With
/// KVCACHE_WRITE_GOLDEN=(directory) in the environment the files are written there, for a new version.
/// </summary>
public class GoldenSnapshotTests
{
    private const int Tokens = 23;

    private static readonly SnapshotName Name = new("golden", "tenant");

    private static readonly SnapshotKey Key = SnapshotKey.FromBytes(SHA256.HashData("golden"u8));

    private static readonly SnapshotOptions Fixed = new()
    {
        Workers = 1,
        BlockBytes = 2048,
        Clock = new StoppedClock(),
        FillRandom = bytes => bytes.AsSpan().Fill(0x5A),
    };

    [Theory]
    [InlineData("v0")]
    [InlineData("v1")]
    [InlineData("v1-encrypted")]
    public void A_snapshot_of_each_version_loads(string version)
    {
        var disk = new MemoryDisk();
        var store = new MemoryStore(disk, OptionsOf(version));
        OldWriter.Put(disk, Name, Golden(version));
        SnapshotSample sample = SnapshotSample.Create(42, Tokens);
        SnapshotContent expected = version == "v0" ? OldWriter.Reduced(sample.Content) : sample.Content;
        Assert.Equal(SnapshotSample.FingerprintOf(expected, sample.PageBytes()), store.Load(Name));
        Assert.Equal(version == "v0" ? 0 : 1, store.Store.List(default).Single().Version);
        Assert.All(store.Store.Verify(Name, default), verdict => Assert.Null(verdict.Error));
    }

    [Theory]
    [InlineData("v0")]
    [InlineData("v1")]
    [InlineData("v1-encrypted")]
    public void What_is_written_is_the_golden_files_to_the_byte(string version)
    {
        IReadOnlyDictionary<string, byte[]> written = Written(version);
        if (Environment.GetEnvironmentVariable("KVCACHE_WRITE_GOLDEN") is { } target)
        {
            Directory.CreateDirectory(Path.Combine(target, version));
            foreach ((string name, byte[] bytes) in written)
            {
                File.WriteAllBytes(Path.Combine(target, version, name), bytes);
            }

            return;
        }

        IReadOnlyDictionary<string, byte[]> golden = Golden(version);
        Assert.Equal(golden.Keys.Order(), written.Keys.Order());
        Assert.All(golden, file => Assert.Equal(Convert.ToHexString(file.Value), Convert.ToHexString(written[file.Key])));
    }

    [Fact]
    public void An_older_version_is_migrated_when_it_is_saved_again_and_stays_as_the_generation_before()
    {
        var disk = new MemoryDisk();
        var store = new MemoryStore(disk, Fixed);
        OldWriter.Put(disk, Name, Golden("v0"));
        using (OpenSnapshot old = store.Store.Open(Name, true, null, default))
        {
            store.Store.Save(Name, old.Content, old.Read);
        }

        SnapshotSample sample = SnapshotSample.Create(42, Tokens);
        Assert.Equal(SnapshotSample.FingerprintOf(OldWriter.Reduced(sample.Content), sample.PageBytes()), store.Load(Name));
        Assert.Equal((1, 2L), (store.Store.List(default).Single().Version, store.Store.List(default).Single().Generation));
        Assert.Equal([2, 1], store.Store.Verify(Name, default).Select(verdict => verdict.Error is null ? verdict.Generation : 0));
    }

    [Fact]
    public void Every_flipped_bit_and_every_truncation_of_version_0_is_an_error_or_changes_nothing()
    {
        var disk = new MemoryDisk();
        var store = new MemoryStore(disk, Fixed);
        OldWriter.Put(disk, Name, Golden("v0"));
        string good = store.Load(Name)!;
        DiskDirectory directory = disk.Find(MemoryStore.Path)!;
        foreach (DiskFile file in directory.Names.Select(one => directory.Find(one)!))
        {
            byte[] whole = file.ToArray();
            for (long bit = 0; bit < file.Length * 8; bit++)
            {
                file.Flip(bit);
                Assert.True(TryLoad(store) is not { } found || found == good, $"bit {bit}");
                file.Flip(bit);
            }

            for (int length = 0; length < whole.Length; length++)
            {
                file.Replace(whole[..length]);
                Assert.True(TryLoad(store) is not { } found || found == good, $"cut to {length}");
            }

            file.Replace(whole);
        }
    }

    private static string? TryLoad(MemoryStore store)
    {
        try
        {
            return store.Load(Name);
        }
        catch (KvCacheException)
        {
            return null;
        }
    }

    private static SnapshotOptions OptionsOf(string version) => version.EndsWith("encrypted", StringComparison.Ordinal) ? Fixed with { Key = Key } : Fixed;

    private static IReadOnlyDictionary<string, byte[]> Written(string version)
    {
        SnapshotSample sample = SnapshotSample.Create(42, Tokens);
        if (version == "v0")
        {
            return OldWriter.Write(Name, sample.Content, sample.PageBytes());
        }

        var disk = new MemoryDisk();
        new MemoryStore(disk, OptionsOf(version)).Save(Name, sample);
        DiskDirectory directory = disk.Find(MemoryStore.Path)!;
        return directory.Names.Where(file => file != "LOCK").ToDictionary(file => file[65..], file => directory.Find(file)!.ToArray());
    }

    private static Dictionary<string, byte[]> Golden(string version) =>
        Directory.EnumerateFiles(Path.Combine(AppContext.BaseDirectory, "Golden", version)).ToDictionary(file => Path.GetFileName(file), File.ReadAllBytes);

    private sealed class StoppedClock : TimeProvider
    {
        public override DateTimeOffset GetUtcNow() => new(2026, 1, 2, 3, 4, 5, TimeSpan.Zero);
    }
}
