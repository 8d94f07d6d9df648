using System.Text.Json;

namespace KvCacheGpu.Llama;

/// <summary>Reads model.safetensors.index.json, which names the shard of each tensor.</summary>
internal static class ShardIndex
{
    private const int MaxShards = 10_000;

    /// <summary>The names of files by tensor; each is a file of the same directory.</summary>
    /// <exception cref="LlamaFormatException">The file is malformed, or a name leads out of the directory (E004).</exception>
    public static Dictionary<string, string> Read(string path)
    {
        JsonFile file = JsonFile.Open(path);
        if (file.Find("weight_map") is not { ValueKind: JsonValueKind.Object } map)
        {
            LlamaFormatException.ThrowCorrupt(file.Name, "weight_map", "an object", "something else");
            return null!;
        }

        Dictionary<string, string> shards = new(StringComparer.Ordinal);
        foreach (JsonProperty entry in map.EnumerateObject())
        {
            string? shard = entry.Value.ValueKind == JsonValueKind.String ? entry.Value.GetString() : null;
            if (shard is null || !IsPlainName(shard))
            {
                LlamaFormatException.ThrowCorrupt(file.Name, entry.Name, "the name of a .safetensors file beside it", entry.Value.GetRawText());
            }

            shards.Add(entry.Name, shard);
        }

        int count = shards.Values.Distinct(StringComparer.Ordinal).Count();
        if (count is 0 or > MaxShards)
        {
            LlamaFormatException.ThrowCorrupt(file.Name, "weight_map", $"1..{MaxShards} files", $"{count}");
        }

        return shards;
    }

    private static bool IsPlainName(string name) =>
        name.EndsWith(".safetensors", StringComparison.Ordinal) && name.AsSpan().IndexOfAny("/\\:\0") < 0;
}
