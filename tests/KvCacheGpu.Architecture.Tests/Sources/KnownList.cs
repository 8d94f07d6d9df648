namespace KvCacheGpu.Architecture.Tests.Sources;

/// <summary>Violations that were there when a rule came. Such a list only shrinks: neither a violation without a line passes, nor a line without a violation.</summary>
internal static class KnownList
{
    /// <summary>Says what is new and what is gone, or returns "" if the list is exact.</summary>
    /// <param name="known">The names of the violations that are listed.</param>
    /// <param name="found">Those that there are: each with its name and the line that shows it.</param>
    public static string Differences(IEnumerable<string> known, IEnumerable<(string Name, string Shown)> found)
    {
        var listed = known.ToHashSet(StringComparer.Ordinal);
        var there = found.ToList();
        string[] added = [.. there.Where(one => !listed.Contains(one.Name)).Select(one => one.Shown)];
        string[] gone = [.. listed.Except(there.Select(one => one.Name)).Order(StringComparer.Ordinal)];
        return Part("Against the rule:", added) + Part("Listed as known, but gone; delete these lines:", gone);
    }

    private static string Part(string title, string[] lines) => lines.Length == 0 ? string.Empty : $"{Environment.NewLine}{title}{string.Concat(lines.Select(line => $"{Environment.NewLine}{line}"))}";
}
