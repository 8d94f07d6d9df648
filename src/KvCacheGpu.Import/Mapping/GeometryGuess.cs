namespace KvCacheGpu.Import;

/// <summary>Guesses the model's shape: the one that most entries of a file have.</summary>
internal static class GeometryGuess
{
    private const int Widest = short.MaxValue;

    /// <summary>The shape; null if no entry holds keys and values.</summary>
    public static ImportGeometry? Of(List<CacheEntry> entries)
    {
        IGrouping<ImportGeometry, ImportGeometry>? most = entries.Where(e => e.Outcome == EntryOutcome.Imported)
            .Select(Of).OfType<ImportGeometry>().GroupBy(g => g).MaxBy(group => group.Count());
        return most is null ? null : most.Key with { Layers = Math.Max(most.Key.Layers, LayersByKeys(entries)) };
    }

    private static ImportGeometry? Of(CacheEntry entry)
    {
        IReadOnlyList<long> keys = entry.Pairs[0].Keys.Shape;
        IReadOnlyList<long> values = entry.Pairs[0].Values.Shape;

        // In canonical orders heads come first, except after a batch and, in five dimensions or at a token's position, after layers.
        bool isToken = keys.Count == 3 && entry.Key is IntegerValue;
        int heads = isToken ? 1 : Math.Max(0, keys.Count - 3);
        bool isSane = keys.Count == values.Count && keys.Count is >= 2 and <= 5
            && new[] { keys[heads], keys[^1], values[^1], keys.Count == 5 || isToken ? keys[0] : 1 }.All(size => size is > 0 and <= Widest);
        return isSane
            ? new ImportGeometry(keys.Count == 5 || isToken ? (int)keys[0] : entry.Pairs.Length, (int)keys[heads], (int)keys[^1], (int)values[^1])
            : null;
    }

    // If keys number the layers, the highest number gives the count.
    private static int LayersByKeys(List<CacheEntry> entries)
    {
        const int Most = 4096;
        Int128 highest = entries.Where(e => e.Outcome == EntryOutcome.Imported && e.Pairs.Length == 1)
            .Select(e => CachePlace.Of(e.Key, isToken: e.Pairs[0].Keys.Shape.Count == 2).Layer ?? -1).DefaultIfEmpty(-1).Max();
        return highest < Most ? (int)highest + 1 : 0;
    }
}
