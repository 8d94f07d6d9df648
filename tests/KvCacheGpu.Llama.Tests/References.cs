using System.Text.Json.Nodes;

namespace KvCacheGpu.Llama.Tests;

/// <summary>Tokenizers and the ids that the libraries they come from give (Reference/README.md says which).</summary>
internal static class References
{
    /// <summary>The kinds of tokenizer.json.</summary>
    public static readonly string[] Kinds = ["gpt2", "qwen2", "llama3", "smol", "digits", "deepseek", "o200k", "llama2", "mistral", "metaspace"];

    private const int VocabularySize = 1000;

    public static readonly Lazy<LlamaConfig> Config = new(() =>
    {
        using TinyCheckpoint shape = new(vocabulary: VocabularySize);
        shape.Config["bos_token_id"] = null;
        shape.Config["eos_token_id"] = null;
        return LlamaConfig.Load(Path.Combine(shape.Write().Path, "config.json"));
    });

    public static byte[] Bytes(string file) => File.ReadAllBytes(PathOf(file));

    /// <summary>A kind's tokenizer.json, whole.</summary>
    public static JsonObject Json(string kind)
    {
        JsonObject json = Parse("kinds.json")[kind]!.DeepClone().AsObject();
        JsonObject model = json["model"]!.AsObject();
        JsonNode family = Parse((string)model["merges"]! + ".json");
        JsonObject vocabulary = family["vocab"]!.DeepClone().AsObject();
        foreach ((string token, JsonNode? id) in model["vocab"]!.AsObject())
        {
            vocabulary.Add(token, id!.DeepClone());
        }

        (model["vocab"], model["merges"]) = (vocabulary, family["merges"]!.DeepClone());
        return json;
    }

    /// <summary>Texts and their ids.</summary>
    public static (string Text, int[] Ids)[] Ids(string kind) =>
        [.. Parse(kind + ".ids.json").AsArray().Select(r => ((string)r![0]!, r[1]!.AsArray().Select(i => (int)i!).ToArray()))];

    /// <summary>Texts and what becomes of them.</summary>
    public static (string Text, string Result)[] Texts(string file) => [.. Parse(file).AsArray().Select(r => ((string)r![0]!, (string)r[1]!))];

    public static LlamaTokenizer Load(JsonObject json)
    {
        using TempFolder folder = new();
        folder.Write("tokenizer.json", json.ToJsonString());
        return LlamaTokenizer.Load(folder.Path, Config.Value)!;
    }

    private static JsonNode Parse(string file) => JsonNode.Parse(Bytes(file))!;

    private static string PathOf(string file) => Path.Combine(AppContext.BaseDirectory, "Reference", file);
}
