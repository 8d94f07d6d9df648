namespace KvCacheGpu;

/// <summary>The positions of a session's tokens, as snapshots keep them: runs of consecutive ones, (first, tokens) each.</summary>
internal static class SessionPositions
{
    /// <summary>Positions as runs.</summary>
    public static long[] RunsOf(List<int> positions)
    {
        var runs = new List<long>();
        for (int i = 0; i < positions.Count; i++)
        {
            if (i == 0 || positions[i] != (long)positions[i - 1] + 1)
            {
                runs.AddRange([positions[i], 0]);
            }

            runs[^1]++;
        }

        return [.. runs];
    }

    /// <summary>Runs of so many tokens: cut, or going on after the largest, as where a plain cache has gone on with a session.</summary>
    public static long[] Fit(IReadOnlyList<long> runs, int tokens)
    {
        var fitting = new List<long>();
        long next = 0;
        long left = tokens;
        for (int i = 0; i < runs.Count && left > 0; i += 2)
        {
            fitting.AddRange([runs[i], Math.Min(runs[i + 1], left)]);
            left -= fitting[^1];
            next = Math.Max(next, runs[i] + runs[i + 1]);
        }

        // Beyond the largest position there is none: what is left is known by its places.
        return left == 0 ? [.. fitting] : next + left <= (long)int.MaxValue + 1 ? [.. fitting, next, left] : [0, tokens];
    }

    /// <summary>Whether runs are positions of so many tokens: each 0 or more, none of them twice.</summary>
    public static bool AreOf(ReadOnlySpan<long> runs, int tokens)
    {
        var spans = new List<(long First, long End)>();
        long all = 0;
        for (int i = 0; i + 1 < runs.Length; i += 2)
        {
            if (runs[i] is < 0 or > int.MaxValue || runs[i + 1] < 1 || runs[i + 1] > (long)int.MaxValue + 1 - runs[i])
            {
                return false;
            }

            all += runs[i + 1];
            spans.Add((runs[i], runs[i] + runs[i + 1]));
        }

        spans.Sort();
        bool areApart = Enumerable.Range(1, Math.Max(0, spans.Count - 1)).All(i => spans[i - 1].End <= spans[i].First);
        return runs.Length % 2 == 0 && all == tokens && areApart;
    }

    /// <summary>
    /// The positions of a sequence's tokens, in the tokens' order: those that an engine had saved; for what a plain cache saved, or an importer read,
    /// the tokens' places.
    /// </summary>
    /// <remarks>
    /// Version 0.1 saved an engine's positions as token ids, and nothing to tell them from a plain cache's: ids of which none occurs twice are
    /// taken for positions there. Tokens without an id (-1) were known by their places.
    /// </remarks>
    public static int[] Of(KvSequence sequence)
    {
        int[] positions = [.. Enumerable.Range(0, sequence.Length)];
        if (sequence.PositionRuns is { } known)
        {
            long[] runs = known.Count == 0 ? [] : Fit(known, positions.Length);
            for (int i = 0, at = 0; i < runs.Length; i += 2)
            {
                for (long position = runs[i]; position < runs[i] + runs[i + 1]; position++)
                {
                    positions[at++] = (int)position;
                }
            }

            return positions;
        }

        int[] ids = [.. sequence.TokenIds.ToArray().Select((id, place) => id < 0 ? place : id)];
        return ids.Distinct().Count() == ids.Length ? ids : positions;
    }
}
