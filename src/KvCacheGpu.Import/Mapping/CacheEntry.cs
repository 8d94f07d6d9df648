namespace KvCacheGpu.Import;

/// <summary>A pair of tensors: keys and values of one layer, or of all.</summary>
internal readonly record struct TensorPair(ImportTensor Keys, ImportTensor Values);

/// <summary>An entry of an old cache: its key, and the pairs that it holds; or why it holds none.</summary>
internal sealed class CacheEntry
{
    private CacheEntry(PickleValue? key) => (Key, Path) = (key, key is null ? string.Empty : "/" + PickleKeys.Text(key));

    /// <summary>Its key; null where the file is one entry.</summary>
    public PickleValue? Key { get; }

    public string Path { get; }

    /// <summary>One pair per layer, or one with all of them.</summary>
    public TensorPair[] Pairs { get; set; } = [];

    /// <summary>Whether a tensor that stands alone was taken for keys and values, one on the other.</summary>
    public bool IsStacked { get; private set; }

    public EntryOutcome Outcome { get; private set; }

    public string? Reason { get; private set; }

    /// <summary>The entries of a file.</summary>
    public static List<CacheEntry> Of(PickleValue root, bool valuesAreKeys, MappingBudget budget) => root is DictValue dict && PairOf(dict, valuesAreKeys) is null
        ? [.. dict.Items.Select(item => Read(item.Key, item.Value, valuesAreKeys, budget))]
        : [Read(null, root, valuesAreKeys, budget)];

    /// <summary>Takes it out of the import.</summary>
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
        if (PairOf(value, valuesAreKeys) is { } pair)
        {
            (entry.Pairs, entry.IsStacked) = ([pair], value is TensorValue && !valuesAreKeys);
        }
        else if (Items(value) is { Count: > 0 } items && items.All(item => PairOf(item, valuesAreKeys) is not null))
        {
            entry.Pairs = [.. items.Select(item => PairOf(item, valuesAreKeys)!.Value)];
            entry.IsStacked = items.Any(item => item is TensorValue) && !valuesAreKeys;
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
            // Stacked: [2] and what a pair's tensors are. Only a declared shape can say that it is no axis of one of them.
            return valuesAreKeys ? new TensorPair(only, only)
                : only.Shape.Count > 2 && only.Shape[0] == 2 ? new TensorPair(only.At(0), only.At(1)) : null;
        }

        (PickleValue? keys, PickleValue? values) = value switch
        {
            DictValue { Items.Count: 2 } dict => (dict.Find("key") ?? dict.Find("k"), dict.Find("value") ?? dict.Find("v")),
            _ when Items(value) is [var k, var v] => (k, v),
            _ => (null, null),
        };
        return keys is TensorValue { Tensor: { } kt } && values is TensorValue { Tensor: { } vt } ? new TensorPair(kt, vt) : null;
    }
}
