namespace KvCacheGpu.Import;

/// <summary>The shape of the model whose keys and values a file holds. It identifies the axes of tensors, which a file does not name.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Layers">Number of layers.</param>
/// <param name="Heads">Number of KV heads of a layer.</param>
/// <param name="KeyWidth">Number of elements of one key.</param>
/// <param name="ValueWidth">Number of elements of one value.</param>
public sealed record ImportGeometry(int Layers, int Heads, int KeyWidth, int ValueWidth)
{
    /// <summary>True if a single tensor is both keys and values. Default: false; such a tensor is quarantined.</summary>
    public bool ValuesAreKeys { get; init; }
}
