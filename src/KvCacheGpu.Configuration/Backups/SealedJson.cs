using System.Text.Json.Serialization;

namespace KvCacheGpu.Configuration;

/// <summary>How documents under a seal are written as JSON. The code is made when the library is built, so that programs that are compiled ahead of time have it too.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, RespectNullableAnnotations = true, RespectRequiredConstructorParameters = true, WriteIndented = true)]
[JsonSerializable(typeof(BackupStore.Document), TypeInfoPropertyName = "Backup")]
[JsonSerializable(typeof(BackupStore.Entry), TypeInfoPropertyName = "BackupFile")]
[JsonSerializable(typeof(ChangeJournal.Entry), TypeInfoPropertyName = "Journal")]
internal sealed partial class SealedJson : JsonSerializerContext;
