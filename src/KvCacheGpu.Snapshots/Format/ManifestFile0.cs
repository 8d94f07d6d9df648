using System.IO.Hashing;

namespace KvCacheGpu;

/// <summary>Version 0 of MANIFEST-(generation): read, never written.</summary>
/// <remarks>
/// <code>
/// header, 32 | name text | tenant text or null | created i64, Unix seconds | sections i32 | blocks i32
///   per section:  kind u32 | first block i32 | blocks i32 | length i64      20 bytes
///   per block:    length i32 | XxHash64 of its bytes                         12 bytes
/// XxHash64 of all before, 8
/// Blocks lie uncompressed, one behind the other, in the blocks file, from its byte 32 on. Nothing is encrypted; there is no page table.
/// </code>
/// </remarks>
internal static class ManifestFile0
{
    public const int HashBytes = 8;

    public static SnapshotManifest Read(ReadOnlySpan<byte> file, FileHeader header, long blocksLength, UInt128 hash)
    {
        var reader = new SectionReader(file[header.Bytes..^HashBytes], "a snapshot's manifest of version 0");
        var name = new SnapshotName(reader.Text(), reader.TextOrNull());
        long created = reader.Int64();
        int sectionCount = reader.Count(20, 16, "sections");
        int blockCount = reader.Count(12, int.MaxValue, "blocks");
        var sections = new SectionRecord[sectionCount];
        for (int i = 0; i < sectionCount; i++)
        {
            sections[i] = new SectionRecord((SectionKind)reader.Int32(), 0, reader.Int32(), reader.Int32(), reader.Int64());
        }

        if (reader.Left != blockCount * 12L)
        {
            throw reader.Flaw($"{blockCount} blocks", $"{reader.Left} bytes of them");
        }

        var blocks = new BlockRecord[blockCount];
        long offset = header.Bytes;
        for (int i = 0; i < blockCount; i++)
        {
            int length = reader.Int32();
            blocks[i] = new BlockRecord(offset, length, length, false, (ulong)reader.Int64());
            offset += length;
        }

        return ManifestCheck.Checked(
            new SnapshotManifest
            {
                Version = 0,
                Generation = header.Generation,
                Name = name,
                Created = ManifestFile.CreatedFrom(created is >= 0 and < 253402300800 ? created * 1000 : -1),
                Sections = sections,
                Blocks = blocks,
                BlocksLength = blocksLength,
                ManifestLength = file.Length,
                Hash = hash,
            },
            header.Bytes);
    }

    /// <summary>XxHash64, as version 0 takes it of blocks and files.</summary>
    public static ulong HashOf(ReadOnlySpan<byte> bytes) => XxHash64.HashToUInt64(bytes);
}
