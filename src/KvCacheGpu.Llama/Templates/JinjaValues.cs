namespace KvCacheGpu.Llama;

// The values of a template: string, bool, long, and these. None is ever null.

/// <summary>Python's None.</summary>
internal sealed class JinjaNone
{
    private JinjaNone()
    {
    }

    /// <summary>The only one.</summary>
    public static readonly JinjaNone Value = new();
}

/// <summary>What a name stands for that has no value.</summary>
/// <param name="Name">The name, for errors.</param>
internal sealed record JinjaUndefined(string Name);

/// <summary>A list or tuple, which no template can change.</summary>
internal sealed class JinjaList(IReadOnlyList<object> items, bool isTuple = false)
{
    /// <summary>True for a tuple, which is equal to no list and cannot be added to one.</summary>
    public bool IsTuple => isTuple;

    /// <summary>Its items.</summary>
    public IReadOnlyList<object> Items => items;
}

/// <summary>A dictionary, which no template can change. Its keys are strings, in the order in which they were put in.</summary>
internal sealed class JinjaDict(OrderedDictionary<string, object> items)
{
    /// <summary>Its values by key.</summary>
    public OrderedDictionary<string, object> Items => items;
}

/// <summary>What <c>namespace(...)</c> makes: values by name that a template may set.</summary>
internal sealed class JinjaNamespace(Dictionary<string, object> items)
{
    /// <summary>Its values.</summary>
    public Dictionary<string, object> Items => items;
}

/// <summary>Items that can be read once, as from a generator of Python.</summary>
internal sealed class JinjaSequence(IReadOnlyList<object> items)
{
    private IReadOnlyList<object>? _items = items;

    /// <summary>Gives the items away.</summary>
    /// <exception cref="JinjaException">They were read before.</exception>
    public IReadOnlyList<object> Take()
    {
        IReadOnlyList<object> items = _items ?? throw new JinjaException("a sequence that is read twice (a filter | list keeps it)");
        _items = null;
        return items;
    }
}

/// <summary>One turn of a loop.</summary>
internal sealed class JinjaTurn(IReadOnlyList<object> items, int index)
{
    /// <summary>The item of this turn.</summary>
    public object Item => items[index];

    /// <summary>What <c>loop.name</c> stands for; null if it is not supported.</summary>
    public object? Find(string name) => name switch
    {
        "index" => index + 1L,
        "index0" => (long)index,
        "revindex" => (long)items.Count - index,
        "revindex0" => items.Count - index - 1L,
        "first" => index == 0,
        "last" => index == items.Count - 1,
        "length" => (long)items.Count,
        "previtem" => index > 0 ? items[index - 1] : new JinjaUndefined("loop.previtem"),
        "nextitem" => index < items.Count - 1 ? items[index + 1] : new JinjaUndefined("loop.nextitem"),
        _ => null,
    };

    /// <summary>True for a name that <see cref="Find"/> knows.</summary>
    public static bool Knows(string name) => new JinjaTurn([string.Empty], 0).Find(name) is not null;
}
