namespace KvCacheGpu.Import;

/// <summary>A tensor and where it lies in its file.</summary>
/// <param name="Path">Keys and indices from the root on, as Python prints them: "/'layer.0'/1".</param>
/// <param name="Tensor">The tensor.</param>
public sealed record NamedTensor(string Path, ImportTensor Tensor);
