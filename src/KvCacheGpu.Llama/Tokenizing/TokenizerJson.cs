using System.Text.Json;

namespace KvCacheGpu.Llama;

/// <summary>
/// Reads tokenizer.json, as Hugging Face's tokenizers write it: BPE over bytes (ByteLevel), or over characters that fall back to bytes, as in files
/// that were made from a SentencePiece model. Settings that would change tokens and are not read here are refused by name.
/// </summary>
internal static class TokenizerJson
{
    /// <summary>Reads a file.</summary>
    public static TokenizerParts Read(string path, LlamaConfig config)
    {
        JsonFile file = JsonFile.Open(path);
        JsonFile model = Model(file);
        bool fallsBack = model.Bool("byte_fallback", false);
        (List<WordStep> steps, bool isByteLevel) = PreTokenizerReader.Read(file);
        if (!isByteLevel && !fallsBack)
        {
            LlamaFormatException.ThrowUnsupported(file.Name, "pre_tokenizer", "byte-level BPE, or one with byte_fallback", "one without ByteLevel");
        }

        if (model.Find("vocab") is not { ValueKind: JsonValueKind.Object } words || model.Find("merges") is not { ValueKind: JsonValueKind.Array } pairs)
        {
            LlamaFormatException.ThrowCorrupt(file.Name, "model", "an object vocab and an array merges", "something else");
            return null!;
        }

        Dictionary<string, int> vocabulary = VocabularyReader.Words(file, words, config.VocabularySize);
        (string Left, string Right)[] merges = [.. pairs.EnumerateArray().Select(m => VocabularyReader.Merge(file.Name, m, vocabulary))];
        int[]? bytes = isByteLevel ? null : Bytes(file, vocabulary);
        IReadOnlyList<AddedToken> added = Added(file, vocabulary, config.VocabularySize);
        Func<string, string> normalize = NormalizerReader.Read(file);
        (bool knowsStart, int? start) = StartReader.Read(file, config.VocabularySize);
        return new TokenizerParts(file.Name, new MergeModel(vocabulary, merges, bytes, model.Bool("ignore_merges", false)), added)
        {
            Normalize = (text, _) => normalize(text),
            Steps = steps,
            DropsFirstSpace = DecoderReader.DropsFirstSpace(file, isByteLevel),
            KnowsStart = knowsStart,
            Start = start,
        };
    }

    /// <summary>True if a file was made from a tokenizer.model: its letters are characters, not bytes.</summary>
    public static bool IsFromSentencePiece(string path) =>
        JsonFile.Open(path) is var file && file.Find("model") is { ValueKind: JsonValueKind.Object } model && file.At(model).Bool("byte_fallback", false);

    private static JsonFile Model(JsonFile file)
    {
        if (file.Find("model") is not { ValueKind: JsonValueKind.Object } element)
        {
            LlamaFormatException.ThrowCorrupt(file.Name, "model", "an object", "none");
            return default;
        }

        JsonFile model = file.At(element);
        string type = model.Text("type") ?? "BPE";
        if (type != "BPE")
        {
            LlamaFormatException.ThrowUnsupported(file.Name, "model.type", "BPE", type);
        }

        // Dropout would omit merges at random; 0 means none.
        JsonElement? dropout = model.Find("dropout");
        model.Support(dropout is null || (dropout.Value.ValueKind == JsonValueKind.Number && dropout.Value.GetDouble() == 0), "dropout", "null");
        model.Support(string.IsNullOrEmpty(model.Text("continuing_subword_prefix")), "continuing_subword_prefix", "null");
        model.Support(string.IsNullOrEmpty(model.Text("end_of_word_suffix")), "end_of_word_suffix", "null");
        return model;
    }

    private static int[] Bytes(JsonFile file, Dictionary<string, int> vocabulary)
    {
        int[] bytes = new int[256];
        for (int value = 0; value < bytes.Length; value++)
        {
            if (!vocabulary.TryGetValue($"<0x{value:X2}>", out bytes[value]))
            {
                LlamaFormatException.ThrowUnsupported(file.Name, "model.byte_fallback", "a vocabulary with a token for every byte", $"one without <0x{value:X2}>");
            }
        }

        return bytes;
    }

    private static IReadOnlyList<AddedToken> Added(JsonFile file, Dictionary<string, int> vocabulary, int size)
    {
        if (file.Find("added_tokens") is not { } list)
        {
            return [];
        }

        if (list.ValueKind != JsonValueKind.Array || list.EnumerateArray().Any(e => e.ValueKind != JsonValueKind.Object))
        {
            LlamaFormatException.ThrowCorrupt(file.Name, "added_tokens", "an array of objects", list.ValueKind.ToString());
        }

        Dictionary<string, AddedToken> tokens = new(StringComparer.Ordinal);
        Dictionary<int, string> texts = vocabulary.ToDictionary(w => w.Value, w => w.Key);
        foreach (JsonElement element in list.EnumerateArray())
        {
            JsonFile token = file.At(element);
            AddedToken read = AddedToken.Read(token, token.Text("content") ?? string.Empty, token.Int("id", 0, size - 1));
            VocabularyReader.Add(file.Name, tokens, read, vocabulary, texts);
        }

        return [.. tokens.Values];
    }
}
