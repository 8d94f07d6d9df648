namespace KvCacheGpu;

/// <summary>Reads a snapshot's description of any version, and checks that it holds together.</summary>
internal static class ContentReader
{
    public static SnapshotContent Read(SnapshotManifest manifest, BlockReader blocks, CancellationToken cancel)
    {
        long pageBytes = manifest.Section(SectionKind.Pages).Length;
        SnapshotContent content = DescriptionSection.Read(blocks.ReadTable(SectionKind.Description, cancel), manifest.Version, out int oldPages);
        byte[] sequences = blocks.ReadTable(SectionKind.Sequences, cancel);
        content = manifest.Version == 0
            ? SequencesSection0.Read(sequences, content, oldPages, pageBytes)
            : SequencesSection.Read(sequences, PageTableSection.Read(blocks.ReadTable(SectionKind.PageTable, cancel), content));
        if (ContentCheck.FirstFlaw(content) is { } flaw)
        {
            throw new KvCorruptionException("a snapshot's description", flaw, "another");
        }

        long tokens = content.Sequences.Sum(sequence => (long)sequence.Length);
        bool isCounted = manifest.Version == 0
            || (manifest.Pages == content.Pages && manifest.Sequences == content.Sequences.Count && manifest.Tokens == tokens);
        return isCounted && content.PageBytes == pageBytes
            ? content
            : throw new KvCorruptionException(
                "a snapshot's description",
                $"{content.Sequences.Count} sequences of {tokens} tokens in {content.Pages} pages of {content.PageBytes} bytes",
                $"{manifest.Sequences} of {manifest.Tokens} in {manifest.Pages} of {pageBytes}");
    }
}
