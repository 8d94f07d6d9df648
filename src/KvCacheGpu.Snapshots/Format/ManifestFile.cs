using System.IO.Hashing;

namespace KvCacheGpu;

/// <summary>Version 1 of the file MANIFEST-(generation).</summary>
/// <remarks>
/// <code>
/// header, 64 | body, or AES-256-GCM of it and the tag of 16 | XxHash128 of all before, 16
///
/// body:
///   name text | tenant text or null | created i64, Unix milliseconds | sequences i64 | tokens i64 | pages i64
///   sections i32 | blocks i32
///   per section:  kind u16 | version u16 | reserved u32, 0 | first block i32 | blocks i32 | decoded length i64      24 bytes
///   per block:    stored i32 | decoded i32, negative: stored by LZ4 | XxHash128 of the decoded bytes                24 bytes
/// Blocks lie one behind the other in the blocks file, from its byte 64 on.
/// </code>
/// </remarks>
internal static class ManifestFile
{
    public const int HashBytes = 16;

    private const int RecordBytes = 24;

    public static byte[] Write(SnapshotManifest manifest, BlockCodec codec)
    {
        var body = new SectionWriter();
        body.Text(manifest.Name.Name);
        body.Text(manifest.Name.Tenant);
        body.Int64(manifest.Created.ToUnixTimeMilliseconds());
        body.Int64(manifest.Sequences);
        body.Int64(manifest.Tokens);
        body.Int64(manifest.Pages);
        body.Int32(manifest.Sections.Count);
        body.Int32(manifest.Blocks.Count);
        foreach (SectionRecord section in manifest.Sections)
        {
            body.UInt16((int)section.Kind);
            body.UInt16(section.Version);
            body.Int32(0);
            body.Int32(section.FirstBlock);
            body.Int32(section.Blocks);
            body.Int64(section.Length);
        }

        foreach (BlockRecord block in manifest.Blocks)
        {
            body.Int32(block.Stored);
            body.Int32(block.IsCompressed ? -block.Decoded : block.Decoded);
            body.Hash(block.Hash);
        }

        byte[] stored = codec.Seal(body.Written, BlockCodec.ManifestPosition);
        long length = FileHeader.MostBytes + (long)stored.Length + HashBytes;
        if (length > SnapshotLimits.ManifestBytes)
        {
            throw new ArgumentException($"expected a snapshot whose manifest takes at most {SnapshotLimits.ManifestBytes} bytes, got {length}");
        }

        var file = new SectionWriter();
        file.Bytes(new FileHeader(FileHeader.NewestVersion, FileKind.Manifest, codec.IsEncrypted, manifest.Generation, length, manifest.Salt).ToBytes());
        file.Bytes(stored);
        file.Hash(XxHash128.HashToUInt128(file.Written));
        return file.Written.ToArray();
    }

    /// <summary>Reads a manifest whose self-hash was verified.</summary>
    public static SnapshotManifest Read(ReadOnlySpan<byte> file, FileHeader header, BlockCodec codec, long blocksLength, UInt128 hash)
    {
        byte[] body = codec.Open(file[FileHeader.MostBytes..^HashBytes], BlockCodec.ManifestPosition);
        var reader = new SectionReader(body, "a snapshot's manifest");
        var name = new SnapshotName(reader.Text(), reader.TextOrNull());
        long created = reader.Int64();
        (long sequences, long tokens, long pages) = (reader.Int64(), reader.Int64(), reader.Int64());
        int sectionCount = reader.Count(RecordBytes, 16, "sections");
        int blockCount = reader.Count(RecordBytes, int.MaxValue, "blocks");
        var sections = new SectionRecord[sectionCount];
        for (int i = 0; i < sections.Length; i++)
        {
            var kind = (SectionKind)reader.UInt16();
            int version = reader.UInt16();
            if (reader.Int32() != 0)
            {
                throw reader.Flaw("0 in reserved words", "others");
            }

            sections[i] = new SectionRecord(kind, version, reader.Int32(), reader.Int32(), reader.Int64());
        }

        var blocks = new BlockRecord[(long)blockCount * RecordBytes <= reader.Left ? blockCount : throw reader.Flaw($"{blockCount} blocks", "fewer bytes")];
        long offset = FileHeader.MostBytes;
        for (int i = 0; i < blocks.Length; i++)
        {
            (int stored, int decoded) = (reader.Int32(), reader.Int32());
            if (stored < 1 || decoded is 0 or int.MinValue)
            {
                throw reader.Flaw("a block with bytes", $"{stored} for {decoded}");
            }

            blocks[i] = new BlockRecord(offset, stored, Math.Abs(decoded), decoded < 0, reader.Hash());
            offset += stored;
        }

        reader.End();
        return ManifestCheck.Checked(
            new SnapshotManifest
            {
                Generation = header.Generation,
                Salt = header.Salt,
                IsEncrypted = header.IsEncrypted,
                Name = name,
                Created = CreatedFrom(created),
                Sequences = sequences,
                Tokens = tokens,
                Pages = pages,
                Sections = sections,
                Blocks = blocks,
                BlocksLength = blocksLength,
                ManifestLength = file.Length,
                Hash = hash,
            },
            FileHeader.MostBytes);
    }

    /// <summary>A time as it was written; one that no calendar has is a flaw.</summary>
    public static DateTimeOffset CreatedFrom(long milliseconds) =>
        milliseconds is >= 0 and < 253402300800000
            ? DateTimeOffset.FromUnixTimeMilliseconds(milliseconds)
            : throw new KvCorruptionException("a snapshot's manifest", "a time of creation", $"{milliseconds}");
}
