namespace KvCacheGpu.Llama;

/// <summary>The element types that weights may have.</summary>
public enum WeightType : byte
{
    /// <summary>IEEE binary32.</summary>
    F32,

    /// <summary>IEEE binary16.</summary>
    F16,

    /// <summary>The upper half of a binary32.</summary>
    BF16,
}

/// <summary>One tensor of a safetensors file. Thread safety: it never changes.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Type">Its element type as written in the file: <c>F16</c>.</param>
/// <param name="Shape">Its dimensions, outermost first; elements are in C order.</param>
/// <param name="Offset">Its first byte, counted from the start of the file.</param>
/// <param name="Bytes">Its length in bytes.</param>
public sealed record TensorEntry(string Name, string Type, IReadOnlyList<long> Shape, long Offset, long Bytes)
{
    /// <summary>The type of a weight; null for integers and other types that no weight has.</summary>
    public WeightType? WeightType => Type switch
    {
        "F32" => Llama.WeightType.F32,
        "F16" => Llama.WeightType.F16,
        "BF16" => Llama.WeightType.BF16,
        _ => null,
    };

    /// <summary>The shape as <c>[a, b]</c>.</summary>
    public string ShapeText => $"[{string.Join(", ", Shape)}]";
}
