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

    /// <summary>
    /// The positions of a sequence's tokens, in the order of the tokens: those that the sequence keeps (<see cref="KvSequence.PositionRuns"/>), else
    /// the places of the tokens.
    /// </summary>
    /// <remarks>
    /// Version 0.1 saved positions as token ids, and nothing to tell them from a plain cache's ids: if none occurs twice, they are taken for positions.
    /// A token without an id (-1) was known by its place.
    /// </remarks>
    public static int[] Of(KvSequence sequence)
    {
        int[] positions = [.. Enumerable.Range(0, sequence.Length)];
        if (sequence.PositionRuns is { } known)
        {
            for (int i = 0, at = 0; i < known.Count; i += 2)
            {
                for (long position = known[i]; position < known[i] + known[i + 1]; position++)
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
