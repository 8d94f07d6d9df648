namespace KvCacheGpu;

/// <summary>Sequences of version 0, whose entries name their page's class; there was no page table, no metadata, and no scores.</summary>
/// <remarks>
/// <code>
/// sequences i32, each:
///   id text | tenant text or null | tokens i32 | token ids, i32 each | first open page i32
///   rows i32, each:  entries i32, each:  page index i32 | class i32 | page i32
/// </code>
/// </remarks>
internal static class SequencesSection0
{
    private const int EntryBytes = 12;

    public static SnapshotContent Read(ReadOnlySpan<byte> section, SnapshotContent content, int pages, long pageBytes)
    {
        var reader = new SectionReader(section, "a snapshot's sequences of version 0");
        if (pages < 0 || pages > SnapshotLimits.Pages || pages > pageBytes)
        {
            throw reader.Flaw("pages that are there", $"{pages}");
        }

        byte[] classes = new byte[pages];
        var sequences = new SnapshotSequence[reader.Count(20, SnapshotLimits.Sequences, "sequences")];
        for (int i = 0; i < sequences.Length; i++)
        {
            sequences[i] = Read(ref reader, classes);
        }

        reader.End();
        return content with { Sequences = sequences, PageClasses = classes };
    }

    private static SnapshotSequence Read(ref SectionReader reader, byte[] classes)
    {
        (string id, string? tenant) = (reader.Text(), reader.TextOrNull());
        int[] tokens = reader.Ints(reader.Count(sizeof(int), int.MaxValue, "tokens"));
        int firstOpen = reader.Int32();
        int rows = reader.Count(sizeof(int), int.MaxValue, "rows");
        int[] starts = new int[rows + 1];
        List<int> indexes = [], ordinals = [];
        for (int row = 0; row < rows; row++)
        {
            int entries = reader.Count(EntryBytes, int.MaxValue, "entries");
            for (int i = 0; i < entries; i++)
            {
                (int index, int pageClass, int ordinal) = (reader.Int32(), reader.Int32(), reader.Int32());
                if ((uint)pageClass > 15 || (uint)ordinal >= (uint)classes.Length)
                {
                    throw reader.Flaw($"a page below {classes.Length}", $"{ordinal} of class {pageClass}");
                }

                indexes.Add(index);
                ordinals.Add(ordinal);
                classes[ordinal] = (byte)pageClass;
            }

            starts[row + 1] = indexes.Count;
        }

        return new SnapshotSequence
        {
            Id = id,
            Tenant = tenant,
            TokenIds = tokens,
            FirstOpenPage = firstOpen,
            RowStarts = starts,
            PageIndexes = indexes.ToArray(),
            Ordinals = ordinals.ToArray(),
        };
    }
}
