using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>Writes version 0, which the library only reads: 32-byte headers, uncompressed blocks, no page table, no metadata, no scores.</summary>
internal static class OldWriter
{
    /// <summary>The three files by their names' ends.</summary>
    public static IReadOnlyDictionary<string, byte[]> Write(SnapshotName name, SnapshotContent content, byte[] pages)
    {
        byte[][] sections = [Description(content), Sequences(content), pages];
        int firstPages = content.BytesOf(0) + content.BytesOf(1);
        byte[][] blocks = [sections[0], sections[1], sections[2][..firstPages], sections[2][firstPages..]];
        var file = new SectionWriter();
        file.Bytes(Header(2, 32 + blocks.Sum(block => block.Length)));
        Array.ForEach(blocks, block => file.Bytes(block));
        byte[] manifest = Manifest(name, sections, blocks);
        var current = new SectionWriter();
        current.Bytes(Header(3, 48));
        current.Bytes(manifest.AsSpan(^8..));
        return new Dictionary<string, byte[]> { ["BLOCKS-0000000000000001"] = file.Written.ToArray(), ["MANIFEST-0000000000000001"] = manifest, ["CURRENT"] = Sealed(current) };
    }

    /// <summary>Makes a store of a snapshot's files, by their names' ends.</summary>
    public static void Put(MemoryDisk disk, SnapshotName name, IReadOnlyDictionary<string, byte[]> files)
    {
        disk.Make(MemoryStore.Path);
        foreach ((string end, byte[] bytes) in files)
        {
            var file = new DiskFile();
            file.Write(bytes, 0);
            disk.Find(MemoryStore.Path)!.Set($"{StoreNames.Of(name).Hash}.{end}", file);
        }
    }

    /// <summary>The part of a content that version 0 could say.</summary>
    public static SnapshotContent Reduced(SnapshotContent content) => content with
    {
        LayerClasses = [.. Enumerable.Repeat((1 << content.Classes.Count) - 1, content.Geometry.Layers)],
        PageStates = default,
        Sequences = [.. content.Sequences.Select(one => one with { Adapter = null, Steps = 0, Scores = [], Metadata = new Dictionary<string, string>() })],
    };

    private static byte[] Manifest(SnapshotName name, byte[][] sections, byte[][] blocks)
    {
        int[] kinds = [1, 3, 4], first = [0, 1, 2], counts = [1, 1, 2];
        var body = new SectionWriter();
        body.Text(name.Name);
        body.Text(name.Tenant);
        body.Int64(1_700_000_000);
        body.Int32(sections.Length);
        body.Int32(blocks.Length);
        for (int i = 0; i < sections.Length; i++)
        {
            body.Int32(kinds[i]);
            body.Int32(first[i]);
            body.Int32(counts[i]);
            body.Int64(sections[i].Length);
        }

        foreach (byte[] block in blocks)
        {
            body.Int32(block.Length);
            body.Int64((long)ManifestFile0.HashOf(block));
        }

        var file = new SectionWriter();
        file.Bytes(Header(1, 32 + body.Written.Length + 8));
        file.Bytes(body.Written);
        return Sealed(file);
    }

    private static byte[] Sealed(SectionWriter file)
    {
        file.Int64((long)ManifestFile0.HashOf(file.Written));
        return file.Written.ToArray();
    }

    private static byte[] Header(int kind, long length)
    {
        var header = new SectionWriter();
        header.Bytes(FileHeader.Magic);
        header.UInt16(0);
        header.UInt16(kind);
        header.Int32(0);
        header.Int64(1);
        header.Int64(length);
        return header.Written.ToArray();
    }

    private static byte[] Description(SnapshotContent content)
    {
        var writer = new SectionWriter();
        KvGeometry geometry = content.Geometry;
        foreach (int number in new[] { geometry.Layers, geometry.QueryHeads, geometry.Heads.Start, geometry.KvHeads, geometry.KeyWidth, geometry.ValueWidth, geometry.PageTokens })
        {
            writer.Int32(number);
        }

        writer.Int64((long)content.RotationSeed);
        writer.Text(content.ModelFingerprint);
        writer.Int32(content.Classes.Count);
        foreach (PageLayout layout in content.Classes)
        {
            writer.Bytes([(byte)layout.KeyFormat, (byte)layout.ValueFormat, layout.HasDigest ? (byte)1 : (byte)0, 0]);
            writer.Int32(layout.Bytes);
        }

        writer.Int32(content.Pages);
        return writer.Written.ToArray();
    }

    private static byte[] Sequences(SnapshotContent content)
    {
        var writer = new SectionWriter();
        writer.Int32(content.Sequences.Count);
        foreach (SnapshotSequence sequence in content.Sequences)
        {
            writer.Text(sequence.Id);
            writer.Text(sequence.Tenant);
            writer.Int32(sequence.Length);
            writer.Ints(sequence.TokenIds.Span);
            writer.Int32(sequence.FirstOpenPage);
            writer.Int32(sequence.RowStarts.Length - 1);
            for (int row = 0; row < sequence.RowStarts.Length - 1; row++)
            {
                (int start, int end) = (sequence.RowStarts.Span[row], sequence.RowStarts.Span[row + 1]);
                writer.Int32(end - start);
                for (int entry = start; entry < end; entry++)
                {
                    int ordinal = sequence.Ordinals.Span[entry];
                    writer.Ints([sequence.PageIndexes.Span[entry], content.PageClasses.Span[ordinal], ordinal]);
                }
            }
        }

        return writer.Written.ToArray();
    }
}
