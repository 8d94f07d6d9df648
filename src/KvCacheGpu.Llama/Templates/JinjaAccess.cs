namespace KvCacheGpu.Llama;

/// <summary>What <c>value.name</c> and <c>value[key]</c> stand for.</summary>
/// <remarks>Where Jinja would give a method of Python's that is not called, the access is refused, since such a value cannot be represented.</remarks>
internal static class JinjaAccess
{
    private static readonly HashSet<string> OfDict = Names("clear copy fromkeys get items keys pop popitem setdefault update values");
    private static readonly HashSet<string> OfList = Names("append clear copy count extend index insert pop remove reverse sort");
    private static readonly HashSet<string> OfNumber = Names("as_integer_ratio bit_count bit_length conjugate denominator from_bytes imag is_integer numerator real to_bytes");

    private static readonly HashSet<string> OfText = Names(
        "capitalize casefold center count encode endswith expandtabs find format format_map index isalnum isalpha isascii isdecimal isdigit isidentifier islower "
        + "isnumeric isprintable isspace istitle isupper join ljust lower lstrip maketrans partition removeprefix removesuffix replace rfind rindex rjust rpartition "
        + "rsplit rstrip split splitlines startswith strip swapcase title translate upper zfill");

    /// <summary>What <c>value.name</c> stands for: an attribute first, then an item.</summary>
    public static object Attribute(object value, string name)
    {
        Refuse(value, name, isItem: false);
        return value switch
        {
            JinjaDict dict => dict.Items.GetValueOrDefault(name) ?? new JinjaUndefined(name),
            JinjaNamespace space => space.Items.GetValueOrDefault(name) ?? new JinjaUndefined(name),
            _ => new JinjaUndefined(name),
        };
    }

    /// <summary>What <c>value[key]</c> stands for: an item first, then an attribute.</summary>
    public static object Item(JinjaContext context, object value, object key)
    {
        switch (value, key)
        {
            case (JinjaDict dict, string name) when dict.Items.TryGetValue(name, out object? item):
                return item;
            case (_, string name):
                Refuse(value, name, isItem: true);
                return value is JinjaNamespace space && space.Items.TryGetValue(name, out object? named) ? named : new JinjaUndefined(name);
            case (JinjaUndefined or JinjaSequence, _):
                throw new JinjaException($"an item of {JinjaOperators.Kind(value)}");
            case (JinjaList or string, _) when JinjaOperators.Number(key) is { } index:
                return At(context, value, index);
            default:
                return new JinjaUndefined("an item");
        }
    }

    private static object At(JinjaContext context, object value, long index)
    {
        IReadOnlyList<object> items = value is JinjaList list ? list.Items : JinjaOperators.Items(context, value);
        long at = index < 0 ? index + items.Count : index;
        return at >= 0 && at < items.Count ? items[(int)at] : new JinjaUndefined($"[{index}]");
    }

    private static void Refuse(object value, string name, bool isItem)
    {
        HashSet<string>? methods = value switch
        {
            JinjaDict => OfDict,
            JinjaList => OfList,
            string => OfText,
            bool or long => OfNumber,
            JinjaNone or JinjaNamespace => null,
            _ => throw new JinjaException($"'{name}' of {JinjaOperators.Kind(value)}"),
        };
        if (methods?.Contains(name) == true || (isItem && name.StartsWith("__", StringComparison.Ordinal)))
        {
            throw new JinjaException($"the method '{name}' of {JinjaOperators.Kind(value)} without a call");
        }
    }

    private static HashSet<string> Names(string names) => [.. names.Split(' ')];
}
