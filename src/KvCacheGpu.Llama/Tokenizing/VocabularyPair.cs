using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace KvCacheGpu.Llama;

/// <summary>
/// Reads vocab.json and merges.txt. They do not tell how words are cut: tokenizer_config.json does, by the class of tokenizer that it names.
/// </summary>
internal static class VocabularyPair
{
    private const string Qwen2 =
        """(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""";

    // Words, single digits, single marks, white space: the pattern with which the demo model was trained. Its files are recognised by their merges.
    private const string Demo = """ ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]|\s+""";
    private const string DemoMerges = "4D494BF459F6189EBCBB6D90B3937458EEC1A7543D5F8F5843A2265003AE52AC";

    /// <summary>Reads both files, and the files beside them that name added tokens.</summary>
    /// <exception cref="LlamaFormatException">A file is malformed (E004), or no file tells how words are cut (E009).</exception>
    public static TokenizerParts Read(string vocabularyPath, string mergesPath, LlamaConfig config)
    {
        JsonFile file = JsonFile.Open(vocabularyPath);
        Dictionary<string, int> vocabulary = VocabularyReader.Words(file, file.Root, config.VocabularySize);
        string[] lines =
        [
            .. ModelFile.ReadLines(mergesPath).Where((line, i) => line.Length > 0 && !(i == 0 && line.StartsWith("#version", StringComparison.Ordinal))),
        ];
        string mergesName = Path.GetFileName(mergesPath);
        (string Left, string Right)[] merges = [.. lines.Select(line => VocabularyReader.Merge(mergesName, line, vocabulary))];
        string directory = Path.GetDirectoryName(vocabularyPath)!;
        JsonFile? settings = Path.Combine(directory, "tokenizer_config.json") is var path && File.Exists(path) ? JsonFile.Open(path) : null;
        (ByteLevelStep step, bool composes) = Words(file.Name, settings, lines);
        AddedToken[] added = Added(directory, settings, config, file, vocabulary);
        return new TokenizerParts(file.Name, new MergeModel(vocabulary, merges, bytes: null, ignoresMerges: false), added)
        {
            Normalize = (text, _) => composes ? ComposedText.Of(text) : text,
            Steps = [step],
        };
    }

    private static (ByteLevelStep Step, bool Composes) Words(string file, JsonFile? settings, string[] merges)
    {
        string? name = settings?.Text("tokenizer_class");
        bool addsSpace = settings?.Bool("add_prefix_space", false) ?? false;
        switch (name)
        {
            case "GPT2Tokenizer" or "GPT2TokenizerFast":
                return (new ByteLevelStep(addsSpace, WordPattern.Read(file, PreTokenizerReader.Gpt2)), false);
            case "Qwen2Tokenizer" or "Qwen2TokenizerFast" when !addsSpace:
                return (new ByteLevelStep(addsSpace: false, WordPattern.Read(file, Qwen2)), true);
            case null when Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(string.Join('\n', merges)))) == DemoMerges:
                return (new ByteLevelStep(addsSpace: false, WordPattern.Read(file, Demo)), false);
            case null:
                LlamaFormatException.ThrowUnsupported(
                    file,
                    "tokenizer_class",
                    "a pair of vocab.json and merges.txt whose tokenizer_config.json names GPT2Tokenizer or Qwen2Tokenizer",
                    "none, so that nothing says how words are cut (a tokenizer.json does)");
                break;
            default:
                LlamaFormatException.ThrowUnsupported(
                    "tokenizer_config.json", "tokenizer_class", "GPT2Tokenizer or Qwen2Tokenizer without add_prefix_space", name);
                break;
        }

        return default;
    }

    private static AddedToken[] Added(string directory, JsonFile? settings, LlamaConfig config, JsonFile file, Dictionary<string, int> vocabulary)
    {
        Dictionary<string, AddedToken> tokens = new(StringComparer.Ordinal);
        Dictionary<int, string> texts = vocabulary.ToDictionary(w => w.Value, w => w.Key);
        int size = config.VocabularySize;
        HashSet<int> ends = [.. config.EosTokenIds, .. config.BosTokenId is { } bos ? [bos] : Array.Empty<int>()];
        if (settings?.Find("added_tokens_decoder") is { } decoder)
        {
            foreach ((string key, JsonFile token) in settings.Value.Objects("added_tokens_decoder", decoder))
            {
                if (!int.TryParse(key, out int id) || (uint)id >= (uint)size)
                {
                    LlamaFormatException.ThrowCorrupt(token.Name, "added_tokens_decoder", $"ids of 0..{size - 1}", key);
                }

                VocabularyReader.Add(token.Name, tokens, AddedToken.Read(token, token.Text("content") ?? string.Empty, id), vocabulary, texts);
            }
        }

        string path = Path.Combine(directory, "added_tokens.json");
        if (File.Exists(path) && JsonFile.Open(path) is var others)
        {
            foreach (JsonProperty other in others.Root.EnumerateObject().Where(p => !tokens.ContainsKey(p.Name)))
            {
                int id = others.Int(other.Name, 0, size - 1);
                VocabularyReader.Add(others.Name, tokens, new AddedToken(other.Name, id) { IsSpecial = ends.Contains(id) }, vocabulary, texts);
            }
        }

        // Tokens that start or end texts are never spelled from letters, even if no file says so.
        foreach (int end in ends.Where(e => texts.TryGetValue(e, out string? text) && !tokens.ContainsKey(text)))
        {
            VocabularyReader.Add(file.Name, tokens, new AddedToken(texts[end], end) { IsSpecial = true }, vocabulary, texts);
        }

        return [.. tokens.Values];
    }
}
