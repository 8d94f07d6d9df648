using System.Runtime.InteropServices;

namespace KvCacheGpu;

/// <summary>The section of sequences.</summary>
/// <remarks>
/// <code>
/// sequences i32, each:
///   id text | tenant text or null | adapter text or null
///   tokens i32 | token ids, i32 each
///   steps i64 | first open page i32
///   rows i32 | where each row's entries end, i32 each | page index of each entry, i32 | page of each entry, i32
///   metadata i32, each: key text | value text
///   columns of scores i32, each: name text | values i32 | 32 bits each
/// </code>
/// </remarks>
internal static class SequencesSection
{
    private const int LeastBytes = 40;

    public static SectionWriter Write(SnapshotContent content)
    {
        var writer = new SectionWriter();
        writer.Int32(content.Sequences.Count);
        foreach (SnapshotSequence sequence in content.Sequences)
        {
            Write(writer, sequence);
        }

        return writer;
    }

    public static SnapshotContent Read(ReadOnlySpan<byte> section, SnapshotContent content)
    {
        var reader = new SectionReader(section, "a snapshot's sequences");
        var sequences = new SnapshotSequence[reader.Count(LeastBytes, SnapshotLimits.Sequences, "sequences")];
        for (int i = 0; i < sequences.Length; i++)
        {
            sequences[i] = Read(ref reader);
        }

        reader.End();
        return content with { Sequences = sequences };
    }

    private static void Write(SectionWriter writer, SnapshotSequence sequence)
    {
        writer.Text(sequence.Id);
        writer.Text(sequence.Tenant);
        writer.Text(sequence.Adapter);
        writer.Int32(sequence.Length);
        writer.Ints(sequence.TokenIds.Span);
        writer.Int64(sequence.Steps);
        writer.Int32(sequence.FirstOpenPage);
        writer.Int32(sequence.RowStarts.Length - 1);
        writer.Ints(sequence.RowStarts.Span[1..]);
        writer.Ints(sequence.PageIndexes.Span);
        writer.Ints(sequence.Ordinals.Span);
        writer.Int32(sequence.Metadata.Count);
        foreach ((string key, string value) in sequence.Metadata)
        {
            writer.Text(key);
            writer.Text(value);
        }

        writer.Int32(sequence.Scores.Count);
        foreach (SnapshotScores column in sequence.Scores)
        {
            writer.Text(column.Name);
            writer.Int32(column.Values.Length);
            writer.Ints(MemoryMarshal.Cast<float, int>(column.Values.Span));
        }
    }

    private static SnapshotSequence Read(ref SectionReader reader)
    {
        (string id, string? tenant, string? adapter) = (reader.Text(), reader.TextOrNull(), reader.TextOrNull());
        int[] tokens = reader.Ints(reader.Count(sizeof(int), int.MaxValue, "tokens"));
        (long steps, int firstOpen) = (reader.Int64(), reader.Int32());
        int[] ends = reader.Ints(reader.Count(sizeof(int), int.MaxValue, "rows"));
        int entries = ends.Length == 0 ? 0 : ends[^1];
        if (entries < 0 || entries * 2L * sizeof(int) > reader.Left)
        {
            throw reader.Flaw("entries that are there", $"{entries}");
        }

        return new SnapshotSequence
        {
            Id = id,
            Tenant = tenant,
            Adapter = adapter,
            TokenIds = tokens,
            Steps = steps,
            FirstOpenPage = firstOpen,
            RowStarts = (int[])[0, .. ends],
            PageIndexes = reader.Ints(entries),
            Ordinals = reader.Ints(entries),
            Metadata = ReadMetadata(ref reader),
            Scores = ReadScores(ref reader),
        };
    }

    private static Dictionary<string, string> ReadMetadata(ref SectionReader reader)
    {
        int count = reader.Count(2 * sizeof(int), SnapshotLimits.Metadata, "pieces of metadata");
        var metadata = new Dictionary<string, string>(count);
        for (int i = 0; i < count; i++)
        {
            string key = reader.Text();
            if (!metadata.TryAdd(key, reader.Text()))
            {
                throw reader.Flaw("each piece of metadata once", $"'{key}' again");
            }
        }

        return metadata;
    }

    private static SnapshotScores[] ReadScores(ref SectionReader reader)
    {
        var columns = new SnapshotScores[reader.Count(2 * sizeof(int), SnapshotLimits.ScoreColumns, "columns of scores")];
        for (int i = 0; i < columns.Length; i++)
        {
            string name = reader.Text();
            int[] bits = reader.Ints(reader.Count(sizeof(int), int.MaxValue, "scores"));
            columns[i] = new SnapshotScores(name, MemoryMarshal.Cast<int, float>(bits).ToArray());
        }

        return columns;
    }
}
