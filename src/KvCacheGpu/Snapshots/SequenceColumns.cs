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

    /// <summary>True for a column of one number for each row; false for one number for each entry.</summary>
    public static bool IsByRow(string name) => name is QuerySquare or OutputSquare;

    /// <summary>Reads all that is known of a sequence's pages. The sequence is held.</summary>
    public static IReadOnlyList<SnapshotScores> Of(CacheState cache, SequenceState sequence, int[] rowStarts, int[] indexes)
    {
        if (sequence.Scores is not { } scores || !cache.Needs.HaveScores())
        {
            return [];
        }

        var columns = new int[Words.Length][];
        for (int word = 0; word < columns.Length; word++)
        {
            columns[word] = new int[indexes.Length];
        }

        TableMap map = cache.Tier.Map;
        int[] words = new int[map.LeafScoreWords];
        for (int leaf = 0; leaf < sequence.Table.Leaves; leaf++)
        {
            using (cache.DeviceGate.Enter())
            {
                cache.Tier.Read(cache.Tier.LeafScoresWord(sequence.Table.Sequence, leaf), words);
            }

            foreach ((int row, int entry) in EntriesIn(map, leaf, rowStarts, indexes))
            {
                for (int word = 0; word < columns.Length; word++)
                {
                    columns[word][entry] = words[map.ScoresInLeaf(row, indexes[entry]) - map.LeafScores + word];
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
        !needs.HaveScores()
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
        if (cache.Needs.HaveScores())
        {
            RestorePages(cache, sequence, saved, later);
        }

        if (scores.Moments is { } moments)
        {
            RestoreRows(saved, QuerySquare, moments.Query);
            RestoreRows(saved, OutputSquare, moments.Output);
        }
    }

    private static void RestorePages(CacheState cache, SequenceState sequence, SnapshotSequence saved, long later)
    {
        TableMap map = cache.Tier.Map;
        int[] indexes = saved.PageIndexes.ToArray();
        int[] starts = saved.RowStarts.ToArray();
        int[] words = new int[map.LeafScoreWords];
        SnapshotScores?[] columns = [.. Words.Select(name => Find(saved, name) is { } column && column.Values.Length == saved.Entries ? column : null)];
        for (int leaf = 0; leaf < sequence.Table.Leaves; leaf++)
        {
            Array.Clear(words);
            foreach ((int row, int entry) in EntriesIn(map, leaf, starts, indexes))
            {
                int first = map.ScoresInLeaf(row, indexes[entry]) - map.LeafScores;
                for (int word = 0; word < columns.Length; word++)
                {
                    int value = columns[word] is { } column ? MemoryMarshal.Cast<float, int>(column.Values.Span)[entry] : 0;
                    bool isStep = word == TableMap.ScoreLastUsed && value != 0;
                    words[first + word] = isStep ? (int)Math.Clamp(value + later, 1, int.MaxValue) : value;
                }
            }

            using (cache.DeviceGate.Enter())
            {
                cache.Tier.Load(cache.Tier.LeafScoresWord(sequence.Table.Sequence, leaf), words);
            }
        }
    }

    // The entries whose scores a leaf has, by row.
    private static IEnumerable<(int Row, int Entry)> EntriesIn(TableMap map, int leaf, int[] rowStarts, int[] indexes)
    {
        for (int row = 0; row < rowStarts.Length - 1; row++)
        {
            for (int entry = rowStarts[row]; entry < rowStarts[row + 1]; entry++)
            {
                if (map.LeafOf(indexes[entry]) == leaf)
                {
                    yield return (row, entry);
                }
            }
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
