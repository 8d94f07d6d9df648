namespace KvCacheGpu;

/// <summary>The section that says of which class each page is.</summary>
/// <remarks>
/// <code>
/// pages i32 | has states u8 | class of each page, u8 each | state of each page, u8 each, if it has
/// </code>
/// </remarks>
internal static class PageTableSection
{
    public static SectionWriter Write(SnapshotContent content)
    {
        var writer = new SectionWriter();
        writer.Int32(content.Pages);
        writer.Byte(content.PageStates.IsEmpty ? (byte)0 : (byte)1);
        writer.Bytes(content.PageClasses.Span);
        writer.Bytes(content.PageStates.Span);
        return writer;
    }

    public static SnapshotContent Read(ReadOnlySpan<byte> section, SnapshotContent content)
    {
        var reader = new SectionReader(section, "a snapshot's page table");
        int pages = reader.Count(1, SnapshotLimits.Pages, "pages");
        byte hasStates = reader.Byte();
        if (hasStates > 1 || (hasStates == 1 && pages == 0))
        {
            throw reader.Flaw("pages with states or without", $"{hasStates}");
        }

        byte[] classes = reader.Bytes(pages).ToArray();
        byte[] states = reader.Bytes(hasStates * pages).ToArray();
        reader.End();
        return content with { PageClasses = classes, PageStates = states };
    }
}
