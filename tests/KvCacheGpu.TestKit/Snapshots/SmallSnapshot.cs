using System.Buffers.Binary;
using System.IO.Hashing;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>A snapshot whose three files take 16 KiB together, to be altered bit by bit.</summary>
internal sealed class SmallSnapshot
{
    public const int Bytes = 16 << 10;

    private readonly MemoryDisk _disk = new();

    public SmallSnapshot()
    {
        for (int padding = 0; ; padding++)
        {
            _disk = new MemoryDisk();
            Sample = SnapshotSample.Create(5, tokens: 91, padding);
            new MemoryStore(_disk, Options).Save("a", Sample);
            if (Files.Sum(file => file.Length) >= Bytes)
            {
                break;
            }
        }

        Assert.Equal(Bytes, Files.Sum(file => file.Length));
        Store = new MemoryStore(_disk, Options);
    }

    public static SnapshotOptions Options { get; } = SnapshotSample.Inline with { BlockBytes = 4096, FillRandom = bytes => new Random(3).NextBytes(bytes) };

    public SnapshotSample Sample { get; }

    public MemoryStore Store { get; }

    public DiskFile Current => File("CURRENT");

    public DiskFile Manifest => File("MANIFEST-");

    public DiskFile Blocks => File("BLOCKS-");

    public IReadOnlyList<DiskFile> Files => [Current, Manifest, Blocks];

    /// <summary>The most that one load allocated.</summary>
    public long MostAllocated { get; private set; }

    /// <summary>Loads; the fingerprint, or null after an error of the cache's own. Anything else is a failure of the test.</summary>
    public string? TryLoad()
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        var target = new KeptTarget();
        try
        {
            Store.Store.Load("a", target, null, default);
        }
        catch (KvCacheException)
        {
            Assert.False(target.IsComplete);
            return null;
        }
        finally
        {
            MostAllocated = Math.Max(MostAllocated, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        return target.Fingerprint;
    }

    /// <summary>Puts a manifest in place whose hashes are made to fit, and CURRENT with it.</summary>
    public void Reseal(byte[] manifest) => Reseal(Manifest, Current, manifest);

    /// <summary>The same of any first generation.</summary>
    public static void Reseal(DiskFile manifestFile, DiskFile currentFile, byte[] manifest)
    {
        ResealHeader(manifest);
        UInt128 hash = XxHash128.HashToUInt128(manifest.AsSpan(0, manifest.Length - 16));
        BinaryPrimitives.WriteUInt128LittleEndian(manifest.AsSpan(manifest.Length - 16), hash);
        manifestFile.Replace(manifest);
        currentFile.Replace(new CurrentFile(1, hash).ToBytes());
    }

    /// <summary>Makes the check of a file's header fit.</summary>
    public static void ResealHeader(byte[] file) =>
        BinaryPrimitives.WriteUInt64LittleEndian(file.AsSpan(56), XxHash3.HashToUInt64(file.AsSpan(0, 56)));

    /// <summary>The manifest as it is read.</summary>
    public SnapshotManifest ReadManifest()
    {
        byte[] bytes = Manifest.ToArray();
        using var codec = new BlockCodec(new byte[32], 1, null);
        return ManifestFile.Read(bytes, FileHeader.Read(bytes, bytes.Length, FileKind.Manifest, ""), codec, Blocks.Length, 0);
    }

    private DiskFile File(string part)
    {
        DiskDirectory directory = _disk.Find(MemoryStore.Path)!;
        return directory.Find(directory.Names.Single(name => name.Contains(part, StringComparison.Ordinal)))!;
    }
}
