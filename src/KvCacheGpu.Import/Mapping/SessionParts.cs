namespace KvCacheGpu.Import;

/// <summary>An entry with its place, its tensors as [batch][tokens][heads][width].</summary>
internal readonly record struct PlacedEntry(CacheEntry Entry, CachePlace Place, TensorPair[] Pairs);

/// <summary>Joins what belongs to one sequence.</summary>
internal static class SessionParts
{
    /// <summary>The sequence, one per row of a batch; none where parts are missing.</summary>
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
        TensorPair?[] layers = new TensorPair?[geometry.Layers];
        foreach (PlacedEntry part in parts)
        {
            Fill(part, layers);
        }

        int missing = Array.IndexOf(layers, null);
        IReadOnlyList<long> first = parts[0].Pairs[0].Keys.Shape;
        bool isEven = layers.All(l => l is null || (l.Value.Keys.Shape[0] == first[0] && l.Value.Keys.Shape[1] == first[1]));
        if (missing >= 0 || !isEven)
        {
            parts.ForEach(part => part.Entry.Quarantine(missing >= 0 ? $"layer {missing} is missing" : "layers of different lengths"));
            return [];
        }

        return
        [
            .. Enumerable.Range(0, (int)first[0]).Select(row => new MappedSequence(
                first[0] == 1 ? name : $"{name}[{row}]", [.. layers.Select(l => new[] { new TensorPair(l!.Value.Keys.At(row), l.Value.Values.At(row)) })])),
        ];
    }

    // A sequence reaches from position 0 to the first gap: what is beyond has lost what it attended to.
    private static List<MappedSequence> ByPosition(string name, List<PlacedEntry> parts, ImportGeometry geometry)
    {
        Dictionary<Int128, TensorPair?[]> positions = [];
        foreach (PlacedEntry part in parts)
        {
            if (!positions.TryGetValue(part.Place.Position!.Value, out TensorPair?[]? layers))
            {
                positions.Add(part.Place.Position.Value, layers = new TensorPair?[geometry.Layers]);
            }

            Fill(part, layers);
        }

        int tokens = 0;
        while (positions.TryGetValue(tokens, out TensorPair?[]? layers) && !layers.Contains(null))
        {
            tokens++;
        }

        foreach (PlacedEntry beyond in parts.Where(p => p.Place.Position < 0 || p.Place.Position >= tokens))
        {
            beyond.Entry.Quarantine($"position {tokens} is missing or lacks a layer");
        }

        TensorPair At(int position, int layer)
        {
            TensorPair pair = positions[position][layer]!.Value;
            return new TensorPair(pair.Keys.At(0), pair.Values.At(0));
        }

        return tokens == 0
            ? []
            : [new MappedSequence(name, [.. Enumerable.Range(0, geometry.Layers).Select(layer => Enumerable.Range(0, tokens).Select(p => At(p, layer)).ToArray())])];
    }

    private static void Fill(PlacedEntry part, TensorPair?[] layers)
    {
        int first = (int)Int128.Clamp(part.Place.Layer ?? 0, -1, layers.Length);
        if (first < 0 || first + part.Pairs.Length > layers.Length || layers.AsSpan(first, part.Pairs.Length).ContainsAnyExcept((TensorPair?)null))
        {
            part.Entry.Quarantine($"a layer of {layers.Length} that is there already, or none of them");
            return;
        }

        for (int i = 0; i < part.Pairs.Length; i++)
        {
            layers[first + i] = part.Pairs[i];
        }
    }
}
