using System.Buffers.Binary;
using KvCacheGpu.TestKit;
using Xunit.Abstractions;

namespace KvCacheGpu.Tests.Snapshots;

/// <summary>Scenarios 22 and 23 of the paging scenarios: 256 cells, a page of one token each, and three interleaved sequences of 70 tokens.</summary>
public sealed class CellScenarioTests(ITestOutputHelper output)
{
    private const uint Count = 0xFFFFFFF0;

    private static readonly KvGeometry Cells = new(layers: 2, queryHeads: 4, kvHeads: 2, keyWidth: 8, pageTokens: 1);

    [Fact]
    public void S22_a_sequence_comes_back_into_the_holes_that_it_left()
    {
        using KvCache cache = Create();
        using KvCache twin = Create();
        KvSequence[] three = Interleaved(cache), others = Interleaved(twin);
        HashSet<int> holes = SlotsOf(three[0]);
        Assert.Equal(70 * 4, holes.Count);
        string before = LiveCaches.Transcript([three[0]]);
        SnapshotStore store = LiveCaches.Store();
        cache.Saved(store, "s", three[0]);
        three[0].Dispose();
        KvRestored restored = cache.Restored(store);
        three[0] = Assert.Single(restored.Sequences);
        Assert.True(restored.IsExact, string.Join("; ", restored.Notes));
        Assert.Subset(holes, SlotsOf(three[0]));
        Assert.Equal(before, LiveCaches.Transcript([three[0]]));
        Assert.Equal(LiveCaches.GoOn(others, 15), LiveCaches.GoOn(three, 15));
        Assert.Equal(LiveCaches.Transcript(others), LiveCaches.Transcript(three));
    }

    [Fact]
    public void S22_an_older_layout_loads()
    {
        using KvCache cache = Create();
        using KvCache twin = Create();
        KvSequence[] three = Interleaved(cache), others = Interleaved(twin);
        var (disk, store) = Saved(three[0]);
        using (OpenSnapshot open = store.Store.Open("s", true, null, default))
        {
            byte[] pages = new byte[open.Content.PageBytes];
            open.Read(0, pages);
            disk = new MemoryDisk();
            OldWriter.Put(disk, "s", OldWriter.Write("s", open.Content, pages));
        }

        three[0].Dispose();
        KvRestored restored = cache.Restored(new MemoryStore(disk).Store);
        three[0] = Assert.Single(restored.Sequences);
        Assert.Equal((0, 280L), (restored.Snapshot!.Version, restored.ExactPages));
        Assert.Equal(LiveCaches.Transcript([others[0]], scores: false), LiveCaches.Transcript([three[0]], scores: false));
        Assert.Equal(LiveCaches.GoOn(others, 15), LiveCaches.GoOn(three, 15));
    }

    // The manifest's name takes 5 bytes, its tenant 4, its time 8: then come sequences, tokens, pages, sections, blocks.
    [Theory]
    [InlineData("E007", "CURRENT", "version 99")]
    [InlineData("E007", "MANIFEST", "version 99")]
    [InlineData("E007", "BLOCKS", "version 99")]
    [InlineData("E004", "MANIFEST", "16 bytes")]
    [InlineData("E004", "BLOCKS", "16 bytes")]
    [InlineData("E004", "MANIFEST", "sequences", 81)]
    [InlineData("E004", "MANIFEST", "tokens", 89)]
    [InlineData("E004", "MANIFEST", "pages", 97)]
    [InlineData("E004", "MANIFEST", "sections", 105)]
    [InlineData("E004", "MANIFEST", "blocks", 109)]
    [InlineData("E004", "BLOCKS", "sequences of the table", 0)]
    [InlineData("E004", "BLOCKS", "tokens of a sequence", 20)]
    [InlineData("E004", "BLOCKS", "last bit of the last page")]
    public void S22_S23_a_refused_snapshot_leaves_no_trace_and_the_engine_serves_on(string code, string part, string flaw, int at = 0)
    {
        using KvCache cache = Create();
        using KvCache twin = Create();
        KvSequence[] three = Interleaved(cache), others = Interleaved(twin);
        var (disk, store) = Saved(three[0]);
        three[0].Dispose();
        others[0].Dispose();
        DiskFile file = Part(disk, part);
        byte[] bytes = file.ToArray();
        switch (flaw)
        {
            case "version 99":
                BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(8), 99);
                Replace(disk, part, bytes);
                break;
            case "16 bytes":
                file.Replace(bytes[..16]);
                break;
            case "last bit of the last page":
                file.Flip((file.Length * 8) - 1);
                break;
            default:
                Spoil(disk, part, bytes, at);
                break;
        }

        string before = cache.Everything(three[1..]);
        long allocated = GC.GetAllocatedBytesForCurrentThread();
        KvCacheException error = Assert.ThrowsAny<KvCacheException>(() => cache.LoadNow(store.Store, "s"));
        allocated = GC.GetAllocatedBytesForCurrentThread() - allocated;
        output.WriteLine($"{allocated >> 10} KiB allocated: {error.Message}");
        Assert.Equal(code, error.Code);
        Assert.InRange(allocated, 1, 512 << 10);
        Assert.Equal(before, cache.Everything(three[1..]));
        Assert.Equal(LiveCaches.GoOn(others[1..], 15), LiveCaches.GoOn(three[1..], 15));
        Assert.Equal(twin.Everything(others[1..]), cache.Everything(three[1..]));
    }

    // A count in the manifest, or in the first block of the table of sequences; every hash made to fit.
    private static void Spoil(MemoryDisk disk, string part, byte[] bytes, int at)
    {
        if (part == "MANIFEST")
        {
            BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(at), Count);
            SmallSnapshot.Reseal(Part(disk, part), Part(disk, "CURRENT"), bytes);
            return;
        }

        byte[] manifestBytes = Part(disk, "MANIFEST").ToArray();
        using var codec = new BlockCodec(new byte[32], 1, null);
        SnapshotManifest manifest = ManifestFile.Read(manifestBytes, FileHeader.Read(manifestBytes, manifestBytes.Length, FileKind.Manifest, ""), codec, bytes.Length, 0);
        int index = manifest.Section(SectionKind.Sequences).FirstBlock;
        BlockRecord old = manifest.Blocks[index];
        byte[] table = new byte[old.Decoded];
        codec.Decode(bytes.AsSpan((int)old.Offset, old.Stored), table, old, index, 1);
        BinaryPrimitives.WriteUInt32LittleEndian(table.AsSpan(at), Count);
        byte[] file = [.. Part(disk, part).ToArray().AsSpan(0, (int)old.Offset), .. table, .. bytes.AsSpan((int)old.Offset + old.Stored)];
        new FileHeader(1, FileKind.Blocks, false, 1, file.Length, manifest.Salt).ToBytes().CopyTo(file, 0);
        Part(disk, part).Replace(file);
        BlockRecord[] records = [.. manifest.Blocks];
        records[index] = new BlockRecord(old.Offset, table.Length, table.Length, false, BlockCodec.HashOf(table, 1));
        SmallSnapshot.Reseal(Part(disk, "MANIFEST"), Part(disk, "CURRENT"), ManifestFile.Write(manifest with { Blocks = records }, codec));
    }

    private static void Replace(MemoryDisk disk, string part, byte[] bytes)
    {
        if (part == "MANIFEST")
        {
            SmallSnapshot.Reseal(Part(disk, part), Part(disk, "CURRENT"), bytes);
            return;
        }

        SmallSnapshot.ResealHeader(bytes);
        Part(disk, part).Replace(bytes);
    }

    private static KvCache Create()
    {
        KvCacheOptions config = TestCaches.Config(PageFormat.F32, maxTokens: 256, maxSequences: 3);
        config.PoisonPages = true;
        return TestCaches.Simd(Cells, config);
    }

    private static KvSequence[] Interleaved(KvCache cache)
    {
        KvSequence[] three = [cache.CreateSequence(), cache.CreateSequence(), cache.CreateSequence()];
        three[0].Name = "chat";
        for (int token = 0; token < 70; token++)
        {
            for (int i = 0; i < three.Length; i++)
            {
                three[i].Feed((1000 * i) + token);
            }
        }

        return three;
    }

    private static HashSet<int> SlotsOf(KvSequence sequence)
    {
        PageTable table = sequence.State.Table;
        return [.. Enumerable.Range(0, table.Rows).SelectMany(row => Enumerable.Range(0, table.Count(row)).Select(entry => table.Slot(row, entry)))];
    }

    private static (MemoryDisk Disk, MemoryStore Store) Saved(KvSequence sequence)
    {
        var disk = new MemoryDisk();
        var store = new MemoryStore(disk);
        sequence.Cache.Saved(store.Store, "s", sequence);
        return (disk, store);
    }

    private static DiskFile Part(MemoryDisk disk, string part)
    {
        DiskDirectory folder = disk.Find(MemoryStore.Path)!;
        return folder.Find(folder.Names.Single(name => name.Contains(part, StringComparison.Ordinal)))!;
    }
}
