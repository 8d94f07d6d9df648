using System.Text.Json;

namespace KvCacheGpu.Llama;

/// <summary>Says which layers of an architecture have a sliding window.</summary>
public enum WindowRule
{
    /// <summary>No layer.</summary>
    None,

    /// <summary>All layers, if config.json has a <c>sliding_window</c>.</summary>
    EveryLayer,

    /// <summary>The layers from <c>max_window_layers</c> on, or those that <c>layer_types</c> names, if <c>use_sliding_window</c> is true.</summary>
    UpperLayers,
}

/// <summary>The features in which a decoder architecture differs from Llama's: a row of a table, so that the forward pass knows features and not names. Thread safety: it never changes.</summary>
/// <param name="Name">Its name under <c>architectures</c> in config.json.</param>
/// <param name="ModelType">Its name under <c>model_type</c>.</param>
public sealed record Architecture(string Name, string ModelType)
{
    /// <summary>The architectures that are served here. Defaults of absent keys are those of Hugging Face Transformers.</summary>
    public static IReadOnlyList<Architecture> Known { get; } =
    [
        new("LlamaForCausalLM", "llama"),
        new("MistralForCausalLM", "mistral") { Window = WindowRule.EveryLayer, KvHeads = 8, MaxPositions = 131_072 },
        new("Qwen2ForCausalLM", "qwen2")
        {
            QueryKeyValueBias = true, Window = WindowRule.UpperLayers, StartsTexts = false, KvHeads = 32, MaxPositions = 32_768,
        },
        new("Qwen3ForCausalLM", "qwen3")
        {
            QueryKeyNorm = true, Window = WindowRule.UpperLayers, StartsTexts = false, KvHeads = 32, HeadWidth = 128, MaxPositions = 32_768,
        },
    ];

    /// <summary>True if the query, key and value projections add a bias.</summary>
    public bool QueryKeyValueBias { get; init; }

    /// <summary>True if each query and key head is normed (RMSNorm over the head) before it is rotated.</summary>
    public bool QueryKeyNorm { get; init; }

    /// <summary>The layers that have a sliding window.</summary>
    public WindowRule Window { get; init; }

    /// <summary>True if texts start with the begin-of-text token when the tokenizer's files do not tell.</summary>
    public bool StartsTexts { get; init; } = true;

    /// <summary>Number of key and value heads if the file has no such key; null for as many as query heads.</summary>
    public int? KvHeads { get; init; }

    /// <summary>Number of elements of a head if the file has no such key; null for hidden size / query heads.</summary>
    public int? HeadWidth { get; init; }

    /// <summary>Trained context in tokens, if the file has no such key.</summary>
    public int MaxPositions { get; init; } = 2048;

    /// <summary>Finds a file's architecture. Refuses every other one, and every setting that changes its forward pass.</summary>
    internal static Architecture Read(JsonFile file)
    {
        JsonElement? names = file.Find("architectures");
        string? type = file.Text("model_type");
        if (names is null && type is null)
        {
            LlamaFormatException.ThrowCorrupt(file.Name, "architectures", "[\"LlamaForCausalLM\"]", "no such key");
        }

        Architecture? found = names is { } list
            ? Known.FirstOrDefault(a => list.ValueKind == JsonValueKind.Array && list.GetArrayLength() == 1
                && list[0].ValueKind == JsonValueKind.String && list[0].ValueEquals(a.Name))
            : Known.FirstOrDefault(a => a.ModelType == type);
        if (found is null)
        {
            string key = names is null ? "model_type" : "architectures";
            string known = string.Join(" or ", Known.Select(a => names is null ? a.ModelType : $"[\"{a.Name}\"]"));
            LlamaFormatException.ThrowUnsupported(file.Name, key, known, names?.GetRawText() ?? type!);
        }

        file.Support(type is null || type == found.ModelType, "model_type", $"{found.ModelType} with {found.Name}");
        file.Support(file.Text("hidden_act") is null or "silu" or "swish", "hidden_act", "silu");
        file.Support(!file.Bool("attention_bias", false), "attention_bias", "false");
        file.Support(!file.Bool("mlp_bias", false), "mlp_bias", "false");
        file.Support(!file.Bool("use_mrope", false), "use_mrope", "false");
        file.Support(file.Find("quantization_config") is null, "quantization_config", "a checkpoint in F32, F16 or BF16");
        return found;
    }
}
