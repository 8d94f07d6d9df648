namespace KvCacheGpu;

/// <summary>Sequences that something else has computed, for <see cref="KvCacheSnapshots.ImportAsync"/>. Keys and values are asked for layer by layer.</summary>
/// <remarks>Thread safety: it never changes, as long as nobody changes the memory that it refers to.</remarks>
public sealed record ImportedCache
{
    /// <summary>The model that the keys and values are of, or null if the file does not say.</summary>
    public string? ModelFingerprint { get; init; }

    /// <summary>Layers.</summary>
    public required int Layers { get; init; }

    /// <summary>KV heads of a layer.</summary>
    public required int KvHeads { get; init; }

    /// <summary>Elements of one key.</summary>
    public required int KeyWidth { get; init; }

    /// <summary>Elements of one value.</summary>
    public required int ValueWidth { get; init; }

    /// <summary>The sequences, each with its own id.</summary>
    public required IReadOnlyList<ImportedSequence> Sequences { get; init; }

    /// <summary>Parts of the file that are not in the sequences, or not as the file has them, one line each; they become part of <see cref="KvRestored.Notes"/>. The default value is none.</summary>
    public IReadOnlyList<string> Notes { get; init; } = [];
}

/// <summary>One sequence of an imported file.</summary>
/// <remarks>Thread safety: it never changes, as long as nobody changes the memory that it refers to.</remarks>
public sealed record ImportedSequence
{
    /// <summary>Its name; becomes <see cref="KvSequence.Name"/>.</summary>
    public required string Id { get; init; }

    /// <summary>Whose it is, or null.</summary>
    public string? Tenant { get; init; }

    /// <summary>Tokens, at least 1.</summary>
    public required int Tokens { get; init; }

    /// <summary>Token ids, <see cref="Tokens"/> of them. Empty, the default: the file has none; they read as -1 then, and the sequence shares no prefix.</summary>
    public ReadOnlyMemory<int> TokenIds { get; init; }

    /// <summary>Other things that the file says of it; they become <see cref="KvSequence.Metadata"/>. The default value is none.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; init; } = new Dictionary<string, string>();

    /// <summary>Reads the keys and values of a layer.</summary>
    public required ImportedLayerReader ReadLayer { get; init; }
}

/// <summary>Reads keys and values of some tokens of a layer. Called by one thread at a time; for each run of tokens, layer by layer.</summary>
/// <param name="layer">Layer.</param>
/// <param name="firstToken">First token.</param>
/// <param name="tokens">How many.</param>
/// <param name="keys">Receives <c>[tokens][KV heads][key width]</c>, in the plain basis, as the model's attention takes them.</param>
/// <param name="values">Receives <c>[tokens][KV heads][value width]</c>.</param>
public delegate void ImportedLayerReader(int layer, int firstToken, int tokens, Span<float> keys, Span<float> values);
