using System.Text.Json;

namespace KvCacheGpu.Llama;

/// <summary>Reads and checks the parts that both kinds of BPE files have: ids by token, and merges.</summary>
internal static class VocabularyReader
{
    /// <summary>Reads ids by token; each id is in the model's vocabulary, and belongs to one token only.</summary>
    public static Dictionary<string, int> Words(JsonFile file, JsonElement words, int size)
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

    /// <summary>Reads a merge of tokenizer.json in one of its two forms: "a b" and ["a", "b"].</summary>
    public static (string Left, string Right) Merge(string file, JsonElement merge, Dictionary<string, int> vocabulary)
    {
        if (merge.ValueKind == JsonValueKind.String)
        {
            return Merge(file, merge.GetString()!, vocabulary);
        }

        bool isPair = merge.ValueKind == JsonValueKind.Array && merge.GetArrayLength() == 2
            && merge[0].ValueKind == JsonValueKind.String && merge[1].ValueKind == JsonValueKind.String;
        return isPair ? Check(file, merge[0].GetString()!, merge[1].GetString()!, vocabulary) : Check(file, string.Empty, merge.GetRawText(), vocabulary);
    }

    /// <summary>Reads a merge from a line, "a b".</summary>
    public static (string Left, string Right) Merge(string file, string line, Dictionary<string, int> vocabulary)
    {
        int space = line.IndexOf(' ', StringComparison.Ordinal);
        return space < 0 || line.IndexOf(' ', space + 1) >= 0
            ? Check(file, string.Empty, line, vocabulary)
            : Check(file, line[..space], line[(space + 1)..], vocabulary);
    }

    /// <summary>Adds a token, and refuses it if another token has its id or text.</summary>
    /// <param name="file">The name of the file in errors.</param>
    /// <param name="tokens">The added tokens so far, to which this one is added.</param>
    /// <param name="token">The token.</param>
    /// <param name="words">The vocabulary.</param>
    /// <param name="texts">The vocabulary by id, with added tokens.</param>
    public static void Add(string file, Dictionary<string, AddedToken> tokens, AddedToken token, Dictionary<string, int> words, Dictionary<int, string> texts)
    {
        bool isTaken = words.TryGetValue(token.Content, out int known) ? known != token.Id : texts.ContainsKey(token.Id);
        if (token.Content.Length == 0 || isTaken || !tokens.TryAdd(token.Content, token))
        {
            LlamaFormatException.ThrowCorrupt(file, "added_tokens", "a text and an id of its own", $"{token.Content} with {token.Id}");
        }

        texts[token.Id] = token.Content;
    }

    private static (string Left, string Right) Check(string file, string left, string right, Dictionary<string, int> vocabulary)
    {
        if (left.Length == 0 || right.Length == 0 || !vocabulary.ContainsKey(left) || !vocabulary.ContainsKey(right) || !vocabulary.ContainsKey(left + right))
        {
            LlamaFormatException.ThrowCorrupt(file, "merges", "\"a b\" or [\"a\", \"b\"], two tokens whose union is a token", $"{left} {right}");
        }

        return (left, right);
    }
}
