namespace KvCacheGpu;

/// <summary>Checks that a manifest's numbers fit each other, the limits and the blocks file, before memory is taken for any block.</summary>
internal static class ManifestCheck
{
    // LZ4 stores at best 255 bytes in one, and a few more.
    private const int MostRatio = 255;

    private static readonly SectionKind[] Kinds = [SectionKind.Description, SectionKind.PageTable, SectionKind.Sequences, SectionKind.Pages];
    private static readonly SectionKind[] OldKinds = [SectionKind.Description, SectionKind.Sequences, SectionKind.Pages];

    public static SnapshotManifest Checked(SnapshotManifest manifest, int headerBytes)
    {
        if (!manifest.Sections.Select(section => section.Kind).SequenceEqual(manifest.Version == 0 ? OldKinds : Kinds))
        {
            throw Flaw($"the sections of version {manifest.Version}", string.Join(", ", manifest.Sections.Select(s => s.Kind)));
        }

        int next = 0;
        foreach (SectionRecord section in manifest.Sections)
        {
            if (section.Version > manifest.Version)
            {
                throw new KvNewerVersionException($"section {section.Kind}", $"version {manifest.Version}", $"version {section.Version}");
            }

            if (section.Version < manifest.Version)
            {
                throw Flaw($"section {section.Kind} of version {manifest.Version}", $"{section.Version}");
            }

            CheckSection(manifest, section, next);
            next += section.Blocks;
        }

        if (next != manifest.Blocks.Count)
        {
            throw Flaw($"{next} blocks", $"{manifest.Blocks.Count}");
        }

        long offset = headerBytes;
        foreach (BlockRecord block in manifest.Blocks)
        {
            CheckBlock(manifest, block, offset);
            offset += block.Stored;
        }

        return offset == manifest.BlocksLength ? manifest : throw Flaw($"{manifest.BlocksLength} bytes of blocks", $"{offset}");
    }

    private static void CheckSection(SnapshotManifest manifest, SectionRecord section, int next)
    {
        if (section.FirstBlock != next || section.Blocks < 0 || section.Blocks > manifest.Blocks.Count - next)
        {
            throw Flaw($"section {section.Kind} to begin at block {next}", $"{section.FirstBlock}, {section.Blocks} blocks");
        }

        long length = 0;
        for (int block = next; block < next + section.Blocks; block++)
        {
            length += manifest.Blocks[block].Decoded;
        }

        bool isTooLong = section.Kind != SectionKind.Pages && length > SnapshotLimits.TableBytes;
        if (length != section.Length || isTooLong)
        {
            throw Flaw($"section {section.Kind} of {section.Length} bytes", $"{length}");
        }
    }

    private static void CheckBlock(SnapshotManifest manifest, BlockRecord block, long offset)
    {
        long content = (long)block.Stored - (manifest.IsEncrypted ? BlockCodec.TagBytes : 0);
        bool fits = block.IsCompressed
            ? content >= 1 && content < block.Decoded && block.Decoded <= content * MostRatio
            : content == block.Decoded;
        if (!fits || block.Decoded is < 1 or > SnapshotLimits.BlockBytes || block.Offset != offset)
        {
            throw Flaw($"a block at {offset} of 1..{SnapshotLimits.BlockBytes} bytes", $"{block.Stored} bytes at {block.Offset} for {block.Decoded}");
        }
    }

    private static KvCorruptionException Flaw(string expected, string actual) => new("a snapshot's manifest", expected, actual);
}
