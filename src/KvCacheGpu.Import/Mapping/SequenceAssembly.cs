namespace KvCacheGpu.Import;

/// <summary>Makes sequences of entries: identifies axes, sorts parts by layer and position, and quarantines entries that have no place.</summary>
internal sealed class SequenceAssembly(ImportGeometry geometry, List<CacheEntry> entries, MappingBudget budget)
{
    private readonly Dictionary<(int Rank, bool IsValue), AxisOrder> _orders = [];

    /// <summary>Makes the sequences; each entry that is in none has a reason afterwards.</summary>
    public List<MappedSequence> Run()
    {
        SplitLayers();
        FindOrders();
        Dictionary<string, List<PlacedEntry>> sessions = new(StringComparer.Ordinal);
        foreach (CacheEntry entry in entries.Where(e => e.Outcome == EntryOutcome.Imported))
        {
            Place(entry, sessions);
        }

        List<MappedSequence> sequences = [];
        HashSet<string> names = new(StringComparer.Ordinal);
        foreach ((string name, List<PlacedEntry> parts) in sessions)
        {
            foreach (MappedSequence sequence in SessionParts.Join(name, parts, geometry))
            {
                // Rows of a batch get names of their own, which another entry may have already.
                string unique = sequence.Name;
                while (!names.Add(unique))
                {
                    unique += "'";
                }

                sequences.Add(sequence.Named(unique));
            }
        }

        return sequences;
    }

    // Layers may be the outermost axis: of five; of four if nothing else tells the layer; or of three if the key is the position of one token.
    private void SplitLayers()
    {
        foreach (CacheEntry entry in entries.Where(e => e.Outcome == EntryOutcome.Imported && e.Pairs.Length == 1))
        {
            TensorPair pair = entry.Pairs[0];
            int rank = pair.Keys.Shape.Count;
            bool isStack = rank == 5 || (geometry.Layers > 1
                && (rank == 4 ? CachePlace.Of(entry.Key, isToken: false).Layer is null : rank == 3 && entry.Key is IntegerValue));
            if (isStack && pair.Values.Shape.Count == rank && pair.Keys.Shape[0] == geometry.Layers && pair.Values.Shape[0] == geometry.Layers)
            {
                budget.CountLayers(2 * geometry.Layers);
                entry.Pairs = [.. Enumerable.Range(0, geometry.Layers).Select(layer => new TensorPair(pair.Keys.At(layer), pair.Values.At(layer)))];
            }
        }
    }

    private void FindOrders()
    {
        TensorPair[] pairs = [.. entries.Where(e => e.Outcome == EntryOutcome.Imported).SelectMany(e => e.Pairs)];
        for (int rank = 2; rank <= 4; rank++)
        {
            _orders[(rank, false)] = AxisOrder.Find(
                rank, pairs.Select(p => p.Keys.Shape).Where(s => s.Count == rank), geometry.Heads, geometry.KeyWidth);
            _orders[(rank, true)] = AxisOrder.Find(
                rank, pairs.Select(p => p.Values.Shape).Where(s => s.Count == rank), geometry.Heads, geometry.ValueWidth);
        }
    }

    private void Place(CacheEntry entry, Dictionary<string, List<PlacedEntry>> sessions)
    {
        if (entry.IsStacked && entry.Pairs.Any(pair => AxisOrder.IsAmbiguous(pair.Keys.Shape, geometry.Heads, geometry.KeyWidth)))
        {
            entry.Quarantine("one tensor for keys and values, two of whose axes are of one size");
            return;
        }

        TensorPair[] pairs = new TensorPair[entry.Pairs.Length];
        for (int i = 0; i < pairs.Length; i++)
        {
            if (Order(entry.Pairs[i].Keys, false) is not { } keys || Order(entry.Pairs[i].Values, true) is not { } values)
            {
                entry.Quarantine($"no axes of {geometry.Heads} heads and widths {geometry.KeyWidth} and {geometry.ValueWidth}");
                return;
            }

            pairs[i] = new TensorPair(keys, values);
        }

        IReadOnlyList<long> shape = pairs[0].Keys.Shape;
        if (shape[0] < 1 || shape[1] is < 1 or > int.MaxValue
            || pairs.Any(p => p.Keys.Shape[0] != shape[0] || p.Values.Shape[0] != shape[0] || p.Keys.Shape[1] != shape[1] || p.Values.Shape[1] != shape[1]))
        {
            entry.Quarantine("not the same tokens, one at least, in keys and values of every layer");
            return;
        }

        CachePlace place = CachePlace.Of(entry.Key, isToken: pairs.Length == geometry.Layers && shape[0] == 1 && shape[1] == 1);
        if (pairs.Length != (place.Layer is null ? geometry.Layers : 1))
        {
            entry.Quarantine($"{pairs.Length} layers of {geometry.Layers}");
        }
        else if (place.Position is not null && (shape[0] != 1 || shape[1] != 1))
        {
            entry.Quarantine("more than a token at one position");
        }
        else
        {
            budget.CountRows(((Int128)shape[0] - 1) * pairs.Length * 2);
            budget.CountText(((Int128)shape[0] - 1) * place.Sequence.Length);
            (sessions.TryGetValue(place.Sequence, out List<PlacedEntry>? parts) ? parts : sessions[place.Sequence] = []).Add(new PlacedEntry(entry, place, pairs));
        }
    }

    // The tensor as [batch][tokens][heads][width]; null if its axes are not known.
    private ImportTensor? Order(ImportTensor tensor, bool isValue) =>
        _orders.TryGetValue((tensor.Shape.Count, isValue), out AxisOrder order)
            && order.Fits(tensor.Shape, geometry.Heads, isValue ? geometry.ValueWidth : geometry.KeyWidth)
            ? order.Apply(tensor)
            : null;
}
