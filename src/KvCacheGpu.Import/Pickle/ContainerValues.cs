namespace KvCacheGpu.Import;

/// <summary>A value that holds other values.</summary>
internal abstract class ContainerValue : PickleValue
{
    private long _tensors;
    private Int128 _tensorBytes;

    protected ContainerValue() => Depth = 1;

    public override long Tensors => _tensors;

    public override Int128 TensorBytes => _tensorBytes;

    /// <summary>Counts a value that is put in, and checks the container.</summary>
    protected void Hold(PickleValue value, ReadBudget budget, long offset)
    {
        if (value is TensorValue { Tensor: null })
        {
            throw ImportException.Corrupt("array", offset, "its BUILD before it is used", "none");
        }

        if (IsHeld || ReferenceEquals(value, this))
        {
            throw ImportException.Corrupt("container", offset, "to be filled before another holds it", "a change after that, or a cycle");
        }

        value.IsHeld = true;
        Depth = Math.Max(Depth, value.Depth + 1);
        Weight += value.Weight;
        HoldsTensor |= value.HoldsTensor;
        _tensors += value.Tensors;
        _tensorBytes += value.TensorBytes;
        budget.CheckShape(this, offset);
    }
}

/// <summary>A tuple.</summary>
internal sealed class TupleValue : ContainerValue
{
    public TupleValue(PickleValue[] items, ReadBudget budget, long offset)
    {
        foreach (PickleValue item in items)
        {
            Hold(item, budget, offset);
        }

        Items = items;
    }

    public PickleValue[] Items { get; }
}

/// <summary>A list.</summary>
internal sealed class ListValue : ContainerValue
{
    public List<PickleValue> Items { get; } = [];

    public void Add(PickleValue item, ReadBudget budget, long offset)
    {
        Hold(item, budget, offset);
        Items.Add(item);
    }
}

/// <summary>A dict, in the order in which it was filled. A key that comes twice is refused, since its first value would be lost.</summary>
internal sealed class DictValue : ContainerValue
{
    private HashSet<PickleValue>? _keys;

    public List<KeyValuePair<PickleValue, PickleValue>> Items { get; } = [];

    /// <summary>True if it is an OrderedDict, which may have attributes, as every state_dict of torch does.</summary>
    public bool IsOrdered { get; init; }

    public void Add(PickleValue key, PickleValue value, ReadBudget budget, long offset)
    {
        if (!PickleKeys.IsKey(key))
        {
            throw ImportException.Unsupported("dict key", offset, "None, a number, a text, or a flat tuple of those", PickleKeys.Describe(key));
        }

        Hold(key, budget, offset);
        Hold(value, budget, offset);
        if (!(_keys ??= new(PickleKeys.Comparer)).Add(key))
        {
            throw ImportException.Corrupt("dict key", offset, "each key once", $"{PickleKeys.Text(key)} again");
        }

        Items.Add(new(key, value));
    }

    /// <summary>The value of a text key; null if there is none.</summary>
    public PickleValue? Find(string key)
    {
        foreach ((PickleValue k, PickleValue v) in Items)
        {
            if (k is TextValue text && text.Value == key)
            {
                return v;
            }
        }

        return null;
    }
}
