namespace KvCacheGpu.Import;

/// <summary>The shape of the model whose keys and values a file holds. It tells axes apart that a file does not name.</summary>
/// <param name="Layers">Layers.</param>
/// <param name="Heads">KV heads of a layer.</param>
/// <param name="KeyWidth">Elements of one key.</param>
/// <param name="ValueWidth">Elements of one value.</param>
public sealed record ImportGeometry(int Layers, int Heads, int KeyWidth, int ValueWidth)
{
    /// <summary>Whether a tensor that stands alone is keys and values in one. Default: false; such a tensor is quarantined.</summary>
    public bool ValuesAreKeys { get; init; }
}
