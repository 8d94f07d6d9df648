namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>The body of an error.</summary>
internal sealed record ErrorBody(ErrorContent Error);

/// <summary>An error.</summary>
internal sealed record ErrorContent(string Message, string Type, string? Param, string? Code);

/// <summary>The list of models.</summary>
internal sealed record ModelList(string Object, IReadOnlyList<ModelEntry> Data);

/// <summary>One model.</summary>
internal sealed record ModelEntry(string Id, string Object, long Created, string OwnedBy, int MaxModelLen);

/// <summary>How the server is.</summary>
internal sealed record HealthBody(string Status, string Model, string Device, string Kernels, int Waiting, string? Error);
