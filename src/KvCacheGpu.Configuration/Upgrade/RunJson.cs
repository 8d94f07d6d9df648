using System.Text.Json.Serialization;

namespace KvCacheGpu.Configuration;

/// <summary>How runs are written, as <see cref="SealedJson"/> says of other documents.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, RespectNullableAnnotations = true, RespectRequiredConstructorParameters = true, WriteIndented = true)]
[JsonSerializable(typeof(KvUpgradeRun))]
internal sealed partial class RunJson : JsonSerializerContext;
