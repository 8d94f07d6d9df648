namespace KvCacheGpu.Import;

/// <summary>A sequence of an old cache: keys and values of every layer, read from the file when they are asked for.</summary>
/// <remarks>Thread safety: it is used by one thread at a time, with its file.</remarks>
public sealed class MappedSequence
{
    // [layer] one tensor of all tokens, or one tensor per token, each [tokens][heads][width].
    private readonly TensorPair[][] _layers;

    internal MappedSequence(string name, TensorPair[][] layers)
    {
        (Name, _layers) = (name, layers);
        Tokens = (int)layers[0].Sum(pair => pair.Keys.Shape[0]);
        ElementTypes = [.. layers.SelectMany(parts => parts).SelectMany(pair => new[] { pair.Keys.Type, pair.Values.Type }).Distinct().Order()];
    }

    /// <summary>Its name in the file.</summary>
    public string Name { get; }

    /// <summary>Number of tokens.</summary>
    public int Tokens { get; }

    /// <summary>The types of its elements in the file; several if parts differ.</summary>
    public IReadOnlyList<ElementType> ElementTypes { get; }

    /// <summary>Reads keys and values of some tokens of a layer.</summary>
    /// <param name="layer">Layer.</param>
    /// <param name="firstToken">First token.</param>
    /// <param name="tokens">Number of tokens.</param>
    /// <param name="keys">Receives <c>[tokens][heads][key width]</c>.</param>
    /// <param name="values">Receives <c>[tokens][heads][value width]</c>.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer or token, or a span has another size.</exception>
    public void Read(int layer, int firstToken, int tokens, Span<float> keys, Span<float> values)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(layer);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(layer, _layers.Length);
        ArgumentOutOfRangeException.ThrowIfNegative(firstToken);
        ArgumentOutOfRangeException.ThrowIfNegative(tokens);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(tokens, Tokens - firstToken);
        TensorPair[] parts = _layers[layer];
        int keyRow = RowOf(parts[0].Keys);
        int valueRow = RowOf(parts[0].Values);
        ArgumentOutOfRangeException.ThrowIfNotEqual(keys.Length, (long)tokens * keyRow, nameof(keys));
        ArgumentOutOfRangeException.ThrowIfNotEqual(values.Length, (long)tokens * valueRow, nameof(values));

        // One tensor holds all tokens, or each tensor holds one token.
        (int part, int within) = parts.Length == 1 ? (0, firstToken) : (firstToken, 0);
        for (int done = 0; done < tokens; part++, within = 0)
        {
            int count = (int)Math.Min(tokens - done, parts[part].Keys.Shape[0] - within);
            parts[part].Keys.Read((long)within * keyRow, keys.Slice(done * keyRow, count * keyRow));
            parts[part].Values.Read((long)within * valueRow, values.Slice(done * valueRow, count * valueRow));
            done += count;
        }
    }

    internal MappedSequence Named(string name) => name == Name ? this : new MappedSequence(name, _layers);

    private static int RowOf(ImportTensor tensor) => (int)(tensor.Shape[1] * tensor.Shape[2]);
}
