using System.Text.Json;
using System.Text.RegularExpressions;

namespace KvCacheGpu.Llama;

/// <summary>What a byte-level BPE tokenizer is made of, whichever files it came in.</summary>
/// <param name="File">The file, as errors name it.</param>
/// <param name="Vocabulary">Ids by token, in the letters of <see cref="ByteAlphabet"/>.</param>
/// <param name="Merges">Pairs "a b", first merged first.</param>
/// <param name="Added">Tokens that are matched in text whole, before anything else, by content.</param>
/// <param name="Special">Those of them that decoding leaves out.</param>
/// <param name="Splits">Patterns that cut text into words, one after the other.</param>
/// <param name="PrefixSpace">Whether a text that does not start with a space gets one.</param>
/// <param name="IgnoresMerges">Whether a word that is in the vocabulary is that token, whatever the merges say (Llama 3).</param>
/// <param name="Composes">Whether text is brought to Unicode's form C first (Qwen).</param>
internal sealed record TokenizerFiles(
    string File,
    Dictionary<string, int> Vocabulary,
    List<string> Merges,
    Dictionary<string, int> Added,
    HashSet<int> Special,
    List<Regex> Splits,
    bool PrefixSpace,
    bool IgnoresMerges = false,
    bool Composes = false)
{
    // Words, single digits, single marks, white space: what the demo model was trained with.
    private const string PlainSplit = """ ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]|\s+""";

    /// <summary>Reads vocab.json and merges.txt.</summary>
    public static TokenizerFiles ReadPair(string vocabularyPath, string mergesPath, LlamaConfig config)
    {
        JsonFile file = JsonFile.Open(vocabularyPath);
        Dictionary<string, int> vocabulary = ReadVocabulary(file, file.Root, config.VocabularySize);
        List<string> merges = [];
        foreach (string line in System.IO.File.ReadLines(mergesPath))
        {
            if (line.Length > 0 && !(merges.Count == 0 && line.StartsWith("#version", StringComparison.Ordinal)))
            {
                merges.Add(CheckMerge(Path.GetFileName(mergesPath), line, vocabulary));
            }
        }

        // Nothing in these files says so, but what starts and ends texts is never spelled out of letters.
        HashSet<int> special = [.. config.EosTokenIds];
        if (config.BosTokenId is { } bos)
        {
            special.Add(bos);
        }

        Dictionary<string, int> added = vocabulary.Where(t => special.Contains(t.Value)).ToDictionary(StringComparer.Ordinal);
        return new TokenizerFiles(file.Name, vocabulary, merges, added, special, [Pattern(file.Name, PlainSplit)], PrefixSpace: false);
    }

    /// <summary>Reads tokenizer.json.</summary>
    public static TokenizerFiles ReadTokenizerJson(string path, LlamaConfig config)
    {
        JsonFile file = JsonFile.Open(path);
        if (file.Find("model") is not { ValueKind: JsonValueKind.Object } element)
        {
            LlamaFormatException.ThrowCorrupt(file.Name, "model", "an object", "none");
            return null!;
        }

        JsonFile model = file.At(element);
        bool composes = RefuseOtherModels(file, model);
        if (model.Find("vocab") is not { ValueKind: JsonValueKind.Object } words || model.Find("merges") is not { ValueKind: JsonValueKind.Array } pairs)
        {
            LlamaFormatException.ThrowCorrupt(file.Name, "model", "an object vocab and an array merges", "something else");
            return null!;
        }

        Dictionary<string, int> vocabulary = ReadVocabulary(file, words, config.VocabularySize);
        List<string> merges = [.. pairs.EnumerateArray().Select(m => CheckMerge(file.Name, ReadMerge(file.Name, m), vocabulary))];
        (Dictionary<string, int> added, HashSet<int> special) = ReadAdded(file, vocabulary, config.VocabularySize);
        (List<Regex> splits, bool prefixSpace) = PreTokenizerReader.Read(file);
        return new TokenizerFiles(file.Name, vocabulary, merges, added, special, splits, prefixSpace, model.Bool("ignore_merges", false), composes);
    }

    /// <summary>Whether a tokenizer.json was made from a tokenizer.model: characters are its letters, not bytes.</summary>
    public static bool IsFromSentencePiece(string path) =>
        JsonFile.Open(path) is var file && file.Find("model") is { ValueKind: JsonValueKind.Object } model && file.At(model).Bool("byte_fallback", false);

    /// <summary>A pattern of a file: compiled, and bounded in time as it is not ours.</summary>
    public static Regex Pattern(string file, string pattern)
    {
        try
        {
            return new Regex(pattern, RegexOptions.CultureInvariant | RegexOptions.Compiled, TimeSpan.FromSeconds(10));
        }
        catch (ArgumentException error)
        {
            LlamaFormatException.ThrowCorrupt(file, "pre_tokenizer", "a regular expression", error.Message, error);
            return null!;
        }
    }

    // Returns whether text is composed first.
    private static bool RefuseOtherModels(JsonFile file, JsonFile model)
    {
        string type = model.Text("type") ?? "BPE";
        if (type != "BPE")
        {
            LlamaFormatException.ThrowUnsupported(file.Name, "model.type", "BPE", type);
        }

        if (model.Bool("byte_fallback", false))
        {
            LlamaFormatException.ThrowUnsupported(file.Name, "model.byte_fallback", "byte-level BPE", "byte fallback");
        }

        JsonElement? normalizer = file.Find("normalizer");
        bool composes = normalizer is { ValueKind: JsonValueKind.Object } form && file.At(form).Text("type") == "NFC";
        if (normalizer is { } other && !composes)
        {
            LlamaFormatException.ThrowUnsupported(file.Name, "normalizer", "null or NFC", other.GetRawText());
        }

        return composes;
    }

    private static Dictionary<string, int> ReadVocabulary(JsonFile file, JsonElement words, int size)
    {
        Dictionary<string, int> vocabulary = new(StringComparer.Ordinal);
        HashSet<int> ids = [];
        foreach (JsonProperty word in words.EnumerateObject())
        {
            if (word.Value.ValueKind != JsonValueKind.Number || !word.Value.TryGetInt32(out int id) || (uint)id >= (uint)size || !ids.Add(id))
            {
                LlamaFormatException.ThrowCorrupt(file.Name, $"token {word.Name}", $"an id of its own of 0..{size - 1}", word.Value.GetRawText());
                continue;
            }

            vocabulary.Add(word.Name, id);
        }

        if (vocabulary.Count == 0)
        {
            LlamaFormatException.ThrowCorrupt(file.Name, "vocabulary", "tokens", "none");
        }

        return vocabulary;
    }

    // Both forms that are written: "a b" and ["a", "b"].
    private static string ReadMerge(string file, JsonElement merge)
    {
        if (merge.ValueKind == JsonValueKind.String)
        {
            return merge.GetString()!;
        }

        if (merge.ValueKind != JsonValueKind.Array || merge.GetArrayLength() != 2
            || merge[0].ValueKind != JsonValueKind.String || merge[1].ValueKind != JsonValueKind.String)
        {
            LlamaFormatException.ThrowCorrupt(file, "merges", "\"a b\" or [\"a\", \"b\"]", merge.GetRawText());
        }

        return $"{merge[0].GetString()} {merge[1].GetString()}";
    }

    private static string CheckMerge(string file, string merge, Dictionary<string, int> vocabulary)
    {
        string[] parts = merge.Split(' ');
        if (parts.Length != 2 || !vocabulary.ContainsKey(parts[0]) || !vocabulary.ContainsKey(parts[1]) || !vocabulary.ContainsKey(parts[0] + parts[1]))
        {
            LlamaFormatException.ThrowCorrupt(file, "merges", "two tokens whose union is a token", merge);
        }

        return merge;
    }

    private static (Dictionary<string, int> Added, HashSet<int> Special) ReadAdded(JsonFile file, Dictionary<string, int> vocabulary, int size)
    {
        Dictionary<string, int> added = new(StringComparer.Ordinal);
        HashSet<int> special = [];
        if (file.Find("added_tokens") is not { } list)
        {
            return (added, special);
        }

        if (list.ValueKind != JsonValueKind.Array || list.EnumerateArray().Any(e => e.ValueKind != JsonValueKind.Object))
        {
            LlamaFormatException.ThrowCorrupt(file.Name, "added_tokens", "an array of objects", list.ValueKind.ToString());
        }

        Dictionary<int, string> words = vocabulary.ToDictionary(w => w.Value, w => w.Key);
        foreach (JsonElement element in list.EnumerateArray())
        {
            JsonFile token = file.At(element);
            string content = token.Text("content") ?? string.Empty;
            int id = token.Int("id", 0, size - 1);
            bool taken = vocabulary.TryGetValue(content, out int known) ? known != id : words.ContainsKey(id);
            if (content.Length == 0 || taken || !added.TryAdd(content, id))
            {
                LlamaFormatException.ThrowCorrupt(file.Name, "added_tokens", "a text and an id of its own", element.GetRawText());
            }

            vocabulary[content] = id;
            words[id] = content;
            if (token.Bool("special", false))
            {
                special.Add(id);
            }
        }

        return (added, special);
    }
}
