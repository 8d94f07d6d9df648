namespace KvCacheGpu.Configuration;

/// <summary>The known name that a mistyped one probably means.</summary>
internal static class NearestName
{
    private const int Longest = 64;

    /// <summary>
    /// The nearest of names by Levenshtein distance (Levenshtein 1966); null where more than a third of the letters differ. Names that are longer than any
    /// known one are not compared: a file may hold one of a megabyte.
    /// </summary>
    public static string? Of(string name, IEnumerable<string> known)
    {
        if (name.Length > Longest)
        {
            return null;
        }

        (string Name, int Distance) best = known
            .Select(candidate => (candidate, Distance(name.ToLowerInvariant(), candidate)))
            .MinBy(pair => pair.Item2);
        return best.Distance * 3 <= Math.Max(name.Length, best.Name.Length) ? best.Name : null;
    }

    /// <summary>What to say of a key that nobody knows.</summary>
    public static string Remark(string key) =>
        $"not a key; {(Of(key, KvConfigurationKeys.All.Select(k => k.Name)) is { } near ? $"did you mean {near}?" : "it is kept and has no effect")}";

    private static int Distance(string from, string to)
    {
        int[] row = [.. Enumerable.Range(0, to.Length + 1)];
        for (int i = 0; i < from.Length; i++)
        {
            (int diagonal, row[0]) = (row[0], i + 1);
            for (int j = 0; j < to.Length; j++)
            {
                int changed = diagonal + (from[i] == to[j] ? 0 : 1);
                diagonal = row[j + 1];
                row[j + 1] = Math.Min(changed, 1 + Math.Min(row[j], row[j + 1]));
            }
        }

        return row[^1];
    }
}
