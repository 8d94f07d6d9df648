namespace KvCacheGpu.Import;

/// <summary>A pair of tensors: keys and values of one layer, or of all.</summary>
internal readonly record struct TensorPair(ImportTensor Keys, ImportTensor Values);

/// <summary>An entry of an old cache: its key, and the pairs that it holds, or the reason why it holds none.</summary>
internal sealed class CacheEntry
{
    // Lists of keys and of values have names that nobody gives to sequences; "k" and "v" may be two sequences.
    private static readonly (string Keys, string Values)[] _listed = [("key_cache", "value_cache"), ("keys", "values")];
    private static readonly (string Keys, string Values)[] _named = [("key", "value"), ("k", "v"), .. _listed];

    private CacheEntry(PickleValue? key) => (Key, Path) = (key, key is null ? string.Empty : "/" + PickleKeys.Text(key));

    /// <summary>The entry's key; null if the file is one entry.</summary>
    public PickleValue? Key { get; }

    public string Path { get; }

    /// <summary>One pair per layer, or one pair with all layers.</summary>
    public TensorPair[] Pairs { get; set; } = [];

    /// <summary>True if a single tensor was taken for keys and values, stacked along its first axis.</summary>
    public bool IsStacked { get; private set; }

    /// <summary>The loss of its elements when they are rounded to float32.</summary>
    public RoundingLoss Loss { get; private set; }

    public EntryOutcome Outcome { get; private set; }

    public string? Reason { get; private set; }

    /// <summary>The entries of a file.</summary>
    public static List<CacheEntry> Of(PickleValue root, bool valuesAreKeys, MappingBudget budget) => root is DictValue dict && PairsOf(dict, valuesAreKeys) is null
        ? [.. dict.Items.Select(item => Read(item.Key, item.Value, valuesAreKeys, budget))]
        : [Read(null, root, valuesAreKeys, budget)];

    /// <summary>Takes the entry out of the import.</summary>
    public void Quarantine(string reason)
    {
        if (Outcome == EntryOutcome.Imported)
        {
            (Outcome, Reason) = (EntryOutcome.Quarantined, reason);
        }
    }

    private static CacheEntry Read(PickleValue? key, PickleValue value, bool valuesAreKeys, MappingBudget budget)
    {
        CacheEntry entry = new(key);
        budget.CountText(entry.Path.Length);
        if (PairsOf(value, valuesAreKeys) is { } pairs)
        {
            entry.Pairs = pairs;
            entry.IsStacked = !valuesAreKeys && (value is TensorValue || (PairOf(value, valuesAreKeys) is null && Items(value) is { } items && items.Any(item => item is TensorValue)));
        }
        else if (PickleWalk.Leaves(value).Any(leaf => leaf.Leaf is TensorValue))
        {
            entry.Quarantine(value is TensorValue ? "one tensor, without values beside it" : "no pairs of keys and values");
        }
        else
        {
            (entry.Outcome, entry.Reason) = (EntryOutcome.Refused, "no tensor");
        }

        foreach (ImportTensor tensor in entry.Pairs.SelectMany(p => new[] { p.Keys, p.Values }))
        {
            if (!tensor.Type.IsFloat())
            {
                entry.Quarantine($"{tensor.Type.Name()} without scales");
            }
            else if (tensor.Shape.Count < 2)
            {
                entry.Quarantine($"a tensor of {tensor.Shape.Count} dimension{(tensor.Shape.Count == 1 ? string.Empty : "s")}, what the old compressor left");
            }
        }

        return entry;
    }

    /// <summary>Quarantines the entry if an element cannot be part of a key or value, or if float32 would round some element and that is not wanted.</summary>
    /// <param name="known">The content of the tensors that were read before, since entries may share tensors.</param>
    /// <param name="isLossless">True if no element may be rounded.</param>
    public void Examine(Dictionary<ImportTensor, TensorContent> known, bool isLossless)
    {
        for (int i = 0; i < Pairs.Length && Outcome == EntryOutcome.Imported; i++)
        {
            foreach ((string what, ImportTensor tensor) in new[] { ("keys", Pairs[i].Keys), ("values", Pairs[i].Values) })
            {
                if (!known.TryGetValue(tensor, out TensorContent content))
                {
                    known.Add(tensor, content = TensorContent.Of(tensor));
                }

                if (content.Fault is { } fault)
                {
                    Quarantine($"{fault} among its {what}{(Pairs.Length > 1 ? $", layer {i}" : string.Empty)}");
                }

                Loss = Loss.And(content.Loss);
            }
        }

        if (isLossless && !Loss.IsNone)
        {
            Quarantine($"float64, of which float32 does not have {Loss.Elements} elements");
        }
    }

    // A pair, a list of keys and a list of values by layer, or a list of pairs by layer; null for any other value.
    private static TensorPair[]? PairsOf(PickleValue value, bool valuesAreKeys)
    {
        if (PairOf(value, valuesAreKeys) is { } pair)
        {
            return [pair];
        }

        if (value is DictValue dict)
        {
            return LayersOf(dict);
        }

        if (Items(value) is not { Count: > 0 } items)
        {
            return null;
        }

        TensorPair[] pairs = new TensorPair[items.Count];
        for (int i = 0; i < pairs.Length; i++)
        {
            if (PairOf(items[i], valuesAreKeys) is not { } layer)
            {
                return null;
            }

            pairs[i] = layer;
        }

        return pairs;
    }

    // The form of transformers: {"key_cache": [of each layer], "value_cache": [of each layer]}.
    private static TensorPair[]? LayersOf(DictValue dict)
    {
        foreach ((string keyName, string valueName) in _listed)
        {
            if (Halves(dict, keyName, valueName) is ({ } k, { } v) && Items(k) is { Count: > 0 } keys && Items(v) is { } values && values.Count == keys.Count
                && keys.Concat(values).All(half => half is TensorValue))
            {
                return [.. keys.Zip(values, (key, half) => new TensorPair(((TensorValue)key).Tensor!, ((TensorValue)half).Tensor!))];
            }
        }

        return null;
    }

    // The two values under these names, if no other value of the dict holds a tensor. Values without tensors say nothing about them.
    private static (PickleValue Keys, PickleValue Values)? Halves(DictValue dict, string keyName, string valueName) =>
        dict.Find(keyName) is { HoldsTensor: true } keys && dict.Find(valueName) is { HoldsTensor: true } values && dict.Items.Count(item => item.Value.HoldsTensor) == 2
            ? (keys, values)
            : null;

    private static IReadOnlyList<PickleValue>? Items(PickleValue value) => value switch
    {
        ListValue list => list.Items,
        TupleValue tuple => tuple.Items,
        _ => null,
    };

    private static TensorPair? PairOf(PickleValue value, bool valuesAreKeys)
    {
        if (value is TensorValue { Tensor: { } only })
        {
            // Stacked: [2], then the axes of keys or values. Only a declared shape can say that this first axis is not one of theirs.
            return valuesAreKeys ? new TensorPair(only, only)
                : only.Shape.Count > 2 && only.Shape[0] == 2 ? new TensorPair(only.At(0), only.At(1)) : null;
        }

        if (value is DictValue dict)
        {
            foreach ((string keyName, string valueName) in _named)
            {
                if (Halves(dict, keyName, valueName) is (TensorValue { Tensor: { } key }, TensorValue { Tensor: { } half }))
                {
                    return new TensorPair(key, half);
                }
            }

            return null;
        }

        return Items(value) is [TensorValue { Tensor: { } keys }, TensorValue { Tensor: { } values }] ? new TensorPair(keys, values) : null;
    }
}
