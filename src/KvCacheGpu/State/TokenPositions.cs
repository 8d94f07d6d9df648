namespace KvCacheGpu;

/// <summary>Positions by which a host knows the tokens of a sequence, as runs of consecutive ones: (first, tokens) each.</summary>
internal static class TokenPositions
{
    /// <summary>Runs of so many tokens: cut, or continued after the largest position.</summary>
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

        // There is no position after the largest that a number can say: then tokens are known by their places.
        return left == 0 ? [.. fitting] : next + left <= (long)int.MaxValue + 1 ? [.. fitting, next, left] : [0, tokens];
    }

    /// <summary>True if these are runs of so many tokens; see <see cref="AreRuns"/>.</summary>
    public static bool AreOf(ReadOnlySpan<long> runs, int tokens)
    {
        if (!AreRuns(runs))
        {
            return false;
        }

        long all = 0;
        for (int i = 1; i < runs.Length; i += 2)
        {
            all += runs[i];
        }

        return all == tokens;
    }

    /// <summary>True if these are runs of positions: each position 0 or more, none of them twice.</summary>
    public static bool AreRuns(ReadOnlySpan<long> runs)
    {
        var spans = new List<(long First, long End)>();
        for (int i = 0; i + 1 < runs.Length; i += 2)
        {
            if (runs[i] is < 0 or > int.MaxValue || runs[i + 1] < 1 || runs[i + 1] > (long)int.MaxValue + 1 - runs[i])
            {
                return false;
            }

            spans.Add((runs[i], runs[i] + runs[i + 1]));
        }

        spans.Sort();
        return runs.Length % 2 == 0 && Enumerable.Range(1, Math.Max(0, spans.Count - 1)).All(i => spans[i - 1].End <= spans[i].First);
    }
}
