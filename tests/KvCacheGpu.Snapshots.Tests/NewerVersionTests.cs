using System.Buffers.Binary;
using System.IO.Hashing;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Snapshots.Tests;

/// <summary>Files that a later version of the library wrote are refused, and stay as they are.</summary>
public class NewerVersionTests
{
    [Theory]
    [InlineData("CURRENT")]
    [InlineData("MANIFEST")]
    [InlineData("BLOCKS")]
    public void A_newer_file_is_refused_untouched_whatever_is_asked(string part)
    {
        var disk = new MemoryDisk();
        var store = new MemoryStore(disk);
        store.Save("a", SnapshotSample.Create(1));
        store.Save("a", SnapshotSample.Create(2));
        DiskDirectory directory = disk.Find(MemoryStore.Path)!;
        string name = directory.Names.Where(file => file.Contains(part, StringComparison.Ordinal)).Max()!;
        byte[] bytes = directory.Find(name)!.ToArray();
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(8), 2);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(56), XxHash3.HashToUInt64(bytes.AsSpan(0, 56)));
        directory.Find(name)!.Replace(part == "MANIFEST" ? Sealed(disk, bytes) : bytes);
        Dictionary<string, byte[]> before = Files(directory);
        Assert.Equal("E007", Assert.Throws<KvNewerVersionException>(() => store.Load("a")).Code);
        Assert.Throws<KvNewerVersionException>(() => store.Save("a", SnapshotSample.Create(3)));
        if (part == "CURRENT")
        {
            Assert.Throws<KvNewerVersionException>(() => store.Store.Delete("a", default));
        }

        Assert.Contains("E007", store.Store.List(default).Single().Notice, StringComparison.Ordinal);
        Assert.Equal(before.Keys.Order(), Files(directory).Keys.Order());
        Assert.All(Files(directory), file => Assert.Equal(before[file.Key], file.Value));
        store.Save("b", SnapshotSample.Create(4));
        Assert.Equal(SnapshotSample.Create(4).Fingerprint, store.Load("b"));
    }

    private static byte[] Sealed(MemoryDisk disk, byte[] manifest)
    {
        UInt128 hash = XxHash128.HashToUInt128(manifest.AsSpan(0, manifest.Length - 16));
        BinaryPrimitives.WriteUInt128LittleEndian(manifest.AsSpan(manifest.Length - 16), hash);
        DiskDirectory directory = disk.Find(MemoryStore.Path)!;
        directory.Find(directory.Names.Single(file => file.EndsWith("CURRENT", StringComparison.Ordinal)))!.Replace(new CurrentFile(2, hash).ToBytes());
        return manifest;
    }

    private static Dictionary<string, byte[]> Files(DiskDirectory directory) =>
        directory.Names.ToDictionary(name => name, name => directory.Find(name)!.ToArray());
}
