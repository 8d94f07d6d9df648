namespace KvCacheGpu.Architecture.Tests.Sources;

/// <summary>Folders that use each other, directly or by way of others.</summary>
internal static class FolderCycles
{
    /// <summary>Every largest set of folders in which each reaches each, the names in order. The root is left out: see <see cref="FolderTests"/>.</summary>
    public static IReadOnlyList<string[]> Of(IEnumerable<FolderArrow> arrows)
    {
        var uses = arrows.Where(arrow => arrow.From.Length > 0 && arrow.To.Length > 0).ToLookup(arrow => arrow.From, arrow => arrow.To, StringComparer.Ordinal);
        var reached = uses.ToDictionary(folder => folder.Key, folder => Reached(uses, folder.Key), StringComparer.Ordinal);
        return
        [
            .. reached.Where(folder => folder.Value.Contains(folder.Key))
                .Select(folder => folder.Value.Where(other => reached.TryGetValue(other, out HashSet<string>? back) && back.Contains(folder.Key)).Order(StringComparer.Ordinal).ToArray())
                .DistinctBy(cycle => cycle[0]).OrderBy(cycle => cycle[0], StringComparer.Ordinal),
        ];
    }

    private static HashSet<string> Reached(ILookup<string, string> uses, string start)
    {
        var reached = new HashSet<string>(StringComparer.Ordinal);
        var open = new Stack<string>(uses[start]);
        while (open.TryPop(out string? folder))
        {
            if (reached.Add(folder))
            {
                foreach (string next in uses[folder])
                {
                    open.Push(next);
                }
            }
        }

        return reached;
    }
}
