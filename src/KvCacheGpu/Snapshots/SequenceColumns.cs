using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>The scores of a sequence's pages as columns of a snapshot: the tables' eight words by entry, the moments by row.</summary>
internal static class SequenceColumns
{
    private const string QuerySquare = "query-square";
    private const string OutputSquare = "output-square";

    // By TableMap.ScoreMass and those that follow.
    private static readonly string[] Words = ["mass", "peak", "last", "window", "last-used", "uses", "key-square", "value-square"];

    /// <summary>Reads all that is known of a sequence's pages. The sequence is held.</summary>
    public static IReadOnlyList<SnapshotScores> Of(CacheState cache, SequenceState sequence, int[] rowStarts, int[] indexes)
    {
        if (sequence.Scores is not { } scores || !PlanMemory.HasScores(cache.Needs))
        {
            return [];
        }

        var columns = new int[Words.Length][];
        for (int word = 0; word < columns.Length; word++)
        {
            columns[word] = new int[indexes.Length];
        }

        for (int row = 0; row < rowStarts.Length - 1; row++)
        {
            (int first, int end) = (rowStarts[row], rowStarts[row + 1]);
            if (first == end)
            {
                continue;
            }

            int[] words = new int[(indexes[end - 1] + 1) * TableMap.ScoreWords];
            using (cache.DeviceGate.Enter())
            {
                cache.Tier.Read(sequence.Table.ScoreWord(row, 0), words);
            }

            for (int entry = first; entry < end; entry++)
            {
                for (int word = 0; word < columns.Length; word++)
                {
                    columns[word][entry] = words[(indexes[entry] * TableMap.ScoreWords) + word];
                }
            }
        }

        List<SnapshotScores> all = [.. Words.Select((name, word) => new SnapshotScores(name, Floats(columns[word])))];
        if (scores.Moments is { } moments)
        {
            all.Add(new SnapshotScores(QuerySquare, moments.Query.ToArray()));
            all.Add(new SnapshotScores(OutputSquare, moments.Output.ToArray()));
        }

        return all;
    }

    /// <summary>True if the snapshot has every score that a cache with these needs keeps.</summary>
    public static bool Has(SnapshotSequence saved, KvStatistics needs) =>
        !PlanMemory.HasScores(needs)
        || (Words.All(name => Find(saved, name) is not null)
            && (!needs.Has(KvStatistics.Queries) || (Find(saved, QuerySquare) is not null && Find(saved, OutputSquare) is not null)));

    /// <summary>Writes them into the tables of a new sequence, held; those that are missing are 0.</summary>
    /// <param name="cache">The cache.</param>
    /// <param name="sequence">The sequence.</param>
    /// <param name="saved">The saved one.</param>
    /// <param name="later">Steps that the cache's numbers are ahead of the saved ones.</param>
    public static void Restore(CacheState cache, SequenceState sequence, SnapshotSequence saved, long later)
    {
        if (sequence.Scores is not { } scores)
        {
            return;
        }

        scores.Samples = SequenceStanding.Number(saved, SequenceStanding.Samples);
        using (cache.DeviceGate.Enter())
        {
            cache.Tier.ClearScores(sequence.Table.Sequence);
        }

        ReadOnlySpan<int> starts = saved.RowStarts.Span;
        ReadOnlySpan<int> indexes = saved.PageIndexes.Span;
        for (int row = 0; row < starts.Length - 1; row++)
        {
            (int first, int end) = (starts[row], starts[row + 1]);
            if (first == end)
            {
                continue;
            }

            int[] words = new int[(indexes[end - 1] + 1) * TableMap.ScoreWords];
            for (int word = 0; word < Words.Length; word++)
            {
                if (Find(saved, Words[word]) is not { } column || column.Values.Length != saved.Entries)
                {
                    continue;
                }

                ReadOnlySpan<int> bits = MemoryMarshal.Cast<float, int>(column.Values.Span);
                for (int entry = first; entry < end; entry++)
                {
                    int value = bits[entry];
                    bool isStep = word == TableMap.ScoreLastUsed && value != 0;
                    words[(indexes[entry] * TableMap.ScoreWords) + word] = isStep ? (int)Math.Clamp(value + later, 1, int.MaxValue) : value;
                }
            }

            using (cache.DeviceGate.Enter())
            {
                cache.Tier.Load(sequence.Table.ScoreWord(row, 0), words);
            }
        }

        if (scores.Moments is { } moments)
        {
            RestoreRows(saved, QuerySquare, moments.Query);
            RestoreRows(saved, OutputSquare, moments.Output);
        }
    }

    private static void RestoreRows(SnapshotSequence saved, string name, Span<float> rows)
    {
        if (Find(saved, name) is { } column && column.Values.Length == rows.Length && !column.Values.Span.ContainsAnyExceptInRange(0, float.MaxValue))
        {
            column.Values.Span.CopyTo(rows);
        }
    }

    private static SnapshotScores? Find(SnapshotSequence saved, string name) => saved.Scores.FirstOrDefault(column => column.Name == name);

    private static float[] Floats(int[] bits) => MemoryMarshal.Cast<int, float>(bits).ToArray();
}
