using System.Text.Json;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.Llama;

/// <summary>The shape of a Llama-architecture checkpoint, as its config.json states it.</summary>
public sealed record LlamaConfig
{
    private const int MaxWidth = 1 << 20;

    private LlamaConfig()
    {
    }

    /// <summary>Tokens in the vocabulary.</summary>
    public required int VocabularySize { get; init; }

    /// <summary>Width of the residual stream.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Width inside the feed-forward block.</summary>
    public required int IntermediateSize { get; init; }

    /// <summary>Decoder layers.</summary>
    public required int Layers { get; init; }

    /// <summary>Query heads.</summary>
    public required int QueryHeads { get; init; }

    /// <summary>Key and value heads; absent in the file means as many as query heads.</summary>
    public required int KvHeads { get; init; }

    /// <summary>Elements of a head; absent in the file means hidden size / query heads.</summary>
    public required int HeadWidth { get; init; }

    /// <summary>The context that the checkpoint was trained for, tokens. The default value is 2048.</summary>
    public required int MaxPositions { get; init; }

    /// <summary>What is added to a mean square before its root.</summary>
    public required double NormEpsilon { get; init; }

    /// <summary>Base of the rotary frequencies. The default value is 10000.</summary>
    public required double RopeTheta { get; init; }

    /// <summary>Stretching of the rotary frequencies.</summary>
    public required RopeScaling RopeScaling { get; init; }

    /// <summary>Whether the output layer is the embedding. The default value is false.</summary>
    public required bool TieWordEmbeddings { get; init; }

    /// <summary>The token that starts every text; null where the checkpoint has none.</summary>
    public required int? BosTokenId { get; init; }

    /// <summary>Tokens that end a text.</summary>
    public required IReadOnlyList<int> EosTokenIds { get; init; }

    /// <summary>Reads config.json; refuses every architecture whose forward pass would differ.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="LlamaFormatException">Missing (E002), malformed or self-contradicting (E004), another architecture (E009).</exception>
    public static LlamaConfig Load(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        if (!File.Exists(path))
        {
            LlamaFormatException.ThrowMissing(path, "a config.json in Hugging Face layout");
        }

        JsonFile file = JsonFile.Open(path);
        RefuseOtherArchitectures(file);
        int hidden = file.Int("hidden_size", 1, MaxWidth);
        int heads = file.Int("num_attention_heads", 1, MaxWidth);
        int kvHeads = file.Int("num_key_value_heads", 1, heads, heads);
        if (heads % kvHeads != 0)
        {
            LlamaFormatException.ThrowCorrupt(file.Name, "num_key_value_heads", $"a divisor of the {heads} query heads", $"{kvHeads}");
        }

        int vocabulary = file.Int("vocab_size", 1, int.MaxValue);
        (double theta, RopeScaling scaling) = ReadRope(file);
        return new LlamaConfig
        {
            VocabularySize = vocabulary,
            HiddenSize = hidden,
            IntermediateSize = file.Int("intermediate_size", 1, MaxWidth),
            Layers = file.Int("num_hidden_layers", 1, 10_000),
            QueryHeads = heads,
            KvHeads = kvHeads,
            HeadWidth = ReadHeadWidth(file, hidden, heads),
            MaxPositions = file.Int("max_position_embeddings", 1, int.MaxValue, 2048),
            NormEpsilon = file.Positive("rms_norm_eps"),
            RopeTheta = theta,
            RopeScaling = scaling,
            TieWordEmbeddings = file.Bool("tie_word_embeddings", false),
            BosTokenId = ReadTokens(file, "bos_token_id", vocabulary) is [int first, ..] ? first : null,
            EosTokenIds = ReadTokens(file, "eos_token_id", vocabulary),
        };
    }

    /// <summary>The shape of this model's keys and values.</summary>
    /// <param name="pageTokens">Tokens in a page, 1..1024. The default value is 64.</param>
    public KvGeometry Geometry(int pageTokens = 64) => new(Layers, QueryHeads, KvHeads, HeadWidth, pageTokens: pageTokens);

    private static void RefuseOtherArchitectures(JsonFile file)
    {
        JsonElement? names = file.Find("architectures");
        string? type = file.Text("model_type");
        if (names is null && type is null)
        {
            LlamaFormatException.ThrowCorrupt(file.Name, "architectures", "[\"LlamaForCausalLM\"]", "no such key");
        }

        bool named = names is null
            || (names.Value.ValueKind == JsonValueKind.Array && names.Value.GetArrayLength() == 1
                && names.Value[0].ValueKind == JsonValueKind.String && names.Value[0].ValueEquals("LlamaForCausalLM"));
        Require(file, named, "architectures", "[\"LlamaForCausalLM\"]", names?.GetRawText());
        Require(file, type is null or "llama", "model_type", "llama", type);
        string activation = file.Text("hidden_act") ?? "silu";
        Require(file, activation is "silu" or "swish", "hidden_act", "silu", activation);
        Require(file, !file.Bool("attention_bias", false), "attention_bias", "false", "true");
        Require(file, !file.Bool("mlp_bias", false), "mlp_bias", "false", "true");
        Require(file, file.Find("quantization_config") is null, "quantization_config", "a checkpoint in F32, F16 or BF16", "one");
    }

    private static int ReadHeadWidth(JsonFile file, int hidden, int heads)
    {
        if (file.Find("head_dim") is null && hidden % heads != 0)
        {
            LlamaFormatException.ThrowCorrupt(file.Name, "hidden_size", $"a multiple of the {heads} heads, as there is no head_dim", $"{hidden}");
        }

        int width = file.Int("head_dim", 1, MaxWidth, hidden / heads);
        if (width % 2 != 0 || width is < KvGeometry.MinWidth or > KvGeometry.MaxWidth)
        {
            LlamaFormatException.ThrowUnsupported(
                file.Name, "head_dim", $"an even width of {KvGeometry.MinWidth}..{KvGeometry.MaxWidth}", $"{width}");
        }

        return width;
    }

    // Checkpoints of 2025 on put theta and scaling together into rope_parameters.
    private static (double Theta, RopeScaling Scaling) ReadRope(JsonFile file)
    {
        JsonElement? parameters = file.Find("rope_parameters");
        JsonElement? scaling = parameters ?? file.Find("rope_scaling");
        if (scaling is { ValueKind: not JsonValueKind.Object })
        {
            LlamaFormatException.ThrowCorrupt(file.Name, "rope_scaling", "an object", scaling.Value.GetRawText());
        }

        double theta = file.Positive("rope_theta", parameters is null ? 10_000 : file.At(parameters.Value).Positive("rope_theta", 10_000));
        return (theta, scaling is null ? RopeScaling.None : RopeScaling.Read(file.At(scaling.Value)));
    }

    private static int[] ReadTokens(JsonFile file, string key, int vocabulary)
    {
        if (file.Find(key) is not { } value)
        {
            return [];
        }

        JsonElement[] elements = value.ValueKind == JsonValueKind.Array ? [.. value.EnumerateArray()] : [value];
        int[] tokens = new int[elements.Length];
        for (int i = 0; i < tokens.Length; i++)
        {
            if (elements[i].ValueKind != JsonValueKind.Number || !elements[i].TryGetInt32(out tokens[i]) || (uint)tokens[i] >= (uint)vocabulary)
            {
                LlamaFormatException.ThrowCorrupt(file.Name, key, $"a token of 0..{vocabulary - 1}", elements[i].GetRawText());
            }
        }

        return tokens;
    }

    private static void Require(JsonFile file, bool met, string key, string expected, string? actual)
    {
        if (!met)
        {
            LlamaFormatException.ThrowUnsupported(file.Name, key, expected, actual ?? "nothing");
        }
    }
}
