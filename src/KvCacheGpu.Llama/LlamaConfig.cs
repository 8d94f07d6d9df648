using System.Text.Json;

namespace KvCacheGpu.Llama;

/// <summary>The shape of a checkpoint of Llama's kind, as its config.json states it. Thread safety: it never changes.</summary>
public sealed record LlamaConfig
{
    private const int MaxWidth = 1 << 20;

    private LlamaConfig()
    {
    }

    /// <summary>The architecture of the decoder.</summary>
    public required Architecture Architecture { get; init; }

    /// <summary>Number of tokens in the vocabulary.</summary>
    public required int VocabularySize { get; init; }

    /// <summary>Width of the residual stream.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Width inside the feed-forward block.</summary>
    public required int IntermediateSize { get; init; }

    /// <summary>Number of decoder layers.</summary>
    public required int Layers { get; init; }

    /// <summary>Number of query heads.</summary>
    public required int QueryHeads { get; init; }

    /// <summary>Number of key and value heads; null in the file means as many as query heads.</summary>
    public required int KvHeads { get; init; }

    /// <summary>Number of elements of a head; null in the file means hidden size / query heads.</summary>
    public required int HeadWidth { get; init; }

    /// <summary>The context for which the checkpoint was trained, in tokens.</summary>
    public required int MaxPositions { get; init; }

    /// <summary>The number that is added to a mean square before its root is taken.</summary>
    public required double NormEpsilon { get; init; }

    /// <summary>The rotation of queries and keys by their positions.</summary>
    public required KvRope Rope { get; init; }

    /// <summary>True if the output layer is the embedding. The default value is false.</summary>
    public required bool TieWordEmbeddings { get; init; }

    /// <summary>The token that starts every text; null if the checkpoint has none.</summary>
    public required int? BosTokenId { get; init; }

    /// <summary>Tokens that end a text, with those of generation_config.json.</summary>
    public required IReadOnlyList<int> EosTokenIds { get; init; }

    /// <summary>For each layer, the number of positions that a token sees, its own included; 0 for all before it.</summary>
    public required IReadOnlyList<int> Windows { get; init; }

    /// <summary>Reads config.json. Refuses every architecture whose forward pass would differ.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="LlamaFormatException">The file is missing (E002), malformed or contradicts itself (E004), or is of another architecture (E009).</exception>
    public static LlamaConfig Load(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        if (!File.Exists(path))
        {
            LlamaFormatException.ThrowMissing(path, "a config.json in Hugging Face layout");
        }

        JsonFile file = JsonFile.Open(path);
        Architecture architecture = Architecture.Read(file);
        int hidden = file.Int("hidden_size", 1, MaxWidth);
        int heads = file.Int("num_attention_heads", 1, MaxWidth);
        int kvHeads = file.Int("num_key_value_heads", 1, heads, file.IsNull("num_key_value_heads") ? heads : architecture.KvHeads ?? heads);
        if (heads % kvHeads != 0)
        {
            LlamaFormatException.ThrowCorrupt(file.Name, "num_key_value_heads", $"a divisor of the {heads} query heads", $"{kvHeads}");
        }

        int vocabulary = file.Int("vocab_size", 1, int.MaxValue);
        int layers = file.Int("num_hidden_layers", 1, 10_000);
        return new LlamaConfig
        {
            Architecture = architecture,
            VocabularySize = vocabulary,
            HiddenSize = hidden,
            IntermediateSize = file.Int("intermediate_size", 1, MaxWidth),
            Layers = layers,
            QueryHeads = heads,
            KvHeads = kvHeads,
            HeadWidth = ReadHeadWidth(file, architecture, hidden, heads),
            MaxPositions = file.Int("max_position_embeddings", 1, int.MaxValue, architecture.MaxPositions),
            NormEpsilon = file.Positive("rms_norm_eps"),
            Rope = RopeParameters.Read(file),
            TieWordEmbeddings = file.Bool("tie_word_embeddings", false),
            BosTokenId = ReadTokens(file, "bos_token_id", vocabulary) is [int first, ..] ? first : null,
            EosTokenIds = ReadEnds(file, path, vocabulary),
            Windows = AttentionWindows.Read(file, architecture, layers),
        };
    }

    /// <summary>The shape of this model's keys and values.</summary>
    /// <param name="pageTokens">Tokens in a page, 1..1024. The default value is 64.</param>
    public KvGeometry Geometry(int pageTokens = 64) => new(Layers, QueryHeads, KvHeads, HeadWidth, pageTokens: pageTokens) { Rope = Rope };

    private static int ReadHeadWidth(JsonFile file, Architecture architecture, int hidden, int heads)
    {
        int? absent = file.IsNull("head_dim") ? null : architecture.HeadWidth;
        if (file.Find("head_dim") is null && absent is null && hidden % heads != 0)
        {
            LlamaFormatException.ThrowCorrupt(file.Name, "hidden_size", $"a multiple of the {heads} heads, as there is no head_dim", $"{hidden}");
        }

        int width = file.Int("head_dim", 1, MaxWidth, absent ?? (hidden / heads));
        if (width % 2 != 0 || width is < KvGeometry.MinWidth or > KvGeometry.MaxWidth)
        {
            LlamaFormatException.ThrowUnsupported(
                file.Name, "head_dim", $"an even width of {KvGeometry.MinWidth}..{KvGeometry.MaxWidth}", $"{width}");
        }

        return width;
    }

    // Chat checkpoints list the token that ends a turn only in generation_config.json.
    private static int[] ReadEnds(JsonFile file, string path, int vocabulary)
    {
        string generation = Path.Combine(Path.GetDirectoryName(path)!, "generation_config.json");
        int[] ends = ReadTokens(file, "eos_token_id", vocabulary);
        return File.Exists(generation) ? [.. ends.Union(ReadTokens(JsonFile.Open(generation), "eos_token_id", vocabulary))] : ends;
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
}
