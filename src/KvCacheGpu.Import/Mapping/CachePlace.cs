namespace KvCacheGpu.Import;

/// <summary>The place of an entry by its key: a sequence, and in it a layer and a position; null for all layers or positions.</summary>
internal readonly record struct CachePlace(string Sequence, Int128? Layer, Int128? Position)
{
    /// <summary>The name of a sequence whose entries are keyed by their positions alone.</summary>
    public const string Positions = "positions";

    /// <summary>The place of a key.</summary>
    /// <param name="key">int: position; (session, int): a layer, or a position if the entry is one token of all layers; (session, layer, position); (layer, position).</param>
    /// <param name="isToken">True if the entry is one token of every layer.</param>
    public static CachePlace Of(PickleValue? key, bool isToken) => key switch
    {
        null => new CachePlace("cache", null, null),
        IntegerValue position => new CachePlace(Positions, null, position.Value),
        TextValue text => new CachePlace(text.Value, null, null),
        TupleValue { Items: [TextValue session, IntegerValue number] } => isToken
            ? new CachePlace(session.Value, null, number.Value)
            : new CachePlace(session.Value, number.Value, null),
        TupleValue { Items: [TextValue session, IntegerValue layer, IntegerValue position] } => new CachePlace(session.Value, layer.Value, position.Value),
        TupleValue { Items: [IntegerValue layer, IntegerValue position] } => new CachePlace(Positions, layer.Value, position.Value),
        _ => new CachePlace(PickleKeys.Text(key), null, null),
    };
}
