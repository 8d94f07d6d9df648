namespace KvCacheGpu.Import;

/// <summary>An entry with its place, and its tensors as [batch][tokens][heads][width].</summary>
internal readonly record struct PlacedEntry(CacheEntry Entry, CachePlace Place, TensorPair[] Pairs);

/// <summary>Joins the entries of one sequence. Layers are kept by number, because a file may name layer 5000 and hold no other.</summary>
internal static class SessionParts
{
    /// <summary>The sequences, one per row of a batch; none if parts are missing.</summary>
    public static IEnumerable<MappedSequence> Join(string name, List<PlacedEntry> parts, ImportGeometry geometry)
    {
        bool isByPosition = parts[0].Place.Position is not null;
        foreach (PlacedEntry other in parts.Where(p => p.Place.Position is not null != isByPosition))
        {
            other.Entry.Quarantine("a position beside entries that are whole, or the other way round");
        }

        List<PlacedEntry> alike = [.. parts.Where(p => p.Entry.Outcome == EntryOutcome.Imported)];
        return isByPosition ? ByPosition(name, alike, geometry) : ByLayer(name, alike, geometry);
    }

    private static List<MappedSequence> ByLayer(string name, List<PlacedEntry> parts, ImportGeometry geometry)
    {
        Dictionary<int, TensorPair> layers = [];
        foreach (PlacedEntry part in parts)
        {
            Fill(part, layers, geometry.Layers);
        }

        IReadOnlyList<long> first = parts[0].Pairs[0].Keys.Shape;
        bool isWhole = layers.Count == geometry.Layers;
        if (!isWhole || layers.Values.Any(l => l.Keys.Shape[0] != first[0] || l.Keys.Shape[1] != first[1]))
        {
            int missing = isWhole ? -1 : Enumerable.Range(0, geometry.Layers).First(layer => !layers.ContainsKey(layer));
            parts.ForEach(part => part.Entry.Quarantine(isWhole ? "layers of different lengths" : $"layer {missing} is missing"));
            return [];
        }

        return
        [
            .. Enumerable.Range(0, (int)first[0]).Select(row => new MappedSequence(
                first[0] == 1 ? name : $"{name}[{row}]", [.. Enumerable.Range(0, geometry.Layers).Select(l => new[] { new TensorPair(layers[l].Keys.At(row), layers[l].Values.At(row)) })])),
        ];
    }

    // A sequence reaches from position 0 to the first gap: tokens beyond it have lost tokens that they attended to.
    private static List<MappedSequence> ByPosition(string name, List<PlacedEntry> parts, ImportGeometry geometry)
    {
        Dictionary<Int128, Dictionary<int, TensorPair>> positions = [];
        foreach (PlacedEntry part in parts)
        {
            if (!positions.TryGetValue(part.Place.Position!.Value, out Dictionary<int, TensorPair>? layers))
            {
                positions.Add(part.Place.Position.Value, layers = []);
            }

            Fill(part, layers, geometry.Layers);
        }

        int tokens = 0;
        while (positions.TryGetValue(tokens, out Dictionary<int, TensorPair>? layers) && layers.Count == geometry.Layers)
        {
            tokens++;
        }

        foreach (PlacedEntry beyond in parts.Where(p => p.Place.Position < 0 || p.Place.Position >= tokens))
        {
            beyond.Entry.Quarantine($"position {tokens} is missing or lacks a layer");
        }

        TensorPair At(int position, int layer)
        {
            TensorPair pair = positions[position][layer];
            return new TensorPair(pair.Keys.At(0), pair.Values.At(0));
        }

        return tokens == 0
            ? []
            : [new MappedSequence(name, [.. Enumerable.Range(0, geometry.Layers).Select(layer => Enumerable.Range(0, tokens).Select(p => At(p, layer)).ToArray())])];
    }

    private static void Fill(PlacedEntry part, Dictionary<int, TensorPair> layers, int all)
    {
        int first = (int)Int128.Clamp(part.Place.Layer ?? 0, -1, all);
        if (first < 0 || first + part.Pairs.Length > all || Enumerable.Range(first, part.Pairs.Length).Any(layers.ContainsKey))
        {
            part.Entry.Quarantine($"a layer of {all} that is there already, or none of them");
            return;
        }

        for (int i = 0; i < part.Pairs.Length; i++)
        {
            layers.Add(first + i, part.Pairs[i]);
        }
    }
}
