using System.Text.Json;

namespace KvCacheGpu.Llama;

/// <summary>Makes a tokenizer of tokenizer.model, and of added_tokens.json if there is one beside it.</summary>
internal static class SentencePieceReader
{
    /// <summary>Reads both files.</summary>
    public static TokenizerParts Read(string path, LlamaConfig config)
    {
        SentencePieceFile file = SentencePieceFile.Read(path, config);
        SentencePieceModel model = new(file);
        List<AddedToken> added = [];
        for (int id = 0; id < file.Pieces.Count; id++)
        {
            (string text, PieceKind kind, _) = file.Pieces[id];
            if (kind is PieceKind.Control or PieceKind.UserDefined)
            {
                // User-defined pieces are found in normalized text, in which the space before the text is included.
                added.Add(new AddedToken(text, id) { IsSpecial = kind == PieceKind.Control, IsNormalized = kind == PieceKind.UserDefined });
            }
        }

        string others = Path.Combine(Path.GetDirectoryName(path)!, "added_tokens.json");
        added.AddRange(File.Exists(others) ? Added(JsonFile.Open(others), file, config) : []);
        return new TokenizerParts(file.Name, model, added)
        {
            Normalize = model.Normalize,
            Silent = [file.Pieces.FindIndex(p => p.Kind == PieceKind.Unknown)],
            DropsFirstSpace = file.AddsSpace,
        };
    }

    // Tokens beyond those of tokenizer.model. A token that repeats a piece must have the piece's id.
    private static IEnumerable<AddedToken> Added(JsonFile file, SentencePieceFile pieces, LlamaConfig config)
    {
        HashSet<int> ids = [];
        Dictionary<string, int> texts = new(StringComparer.Ordinal);
        for (int id = 0; id < pieces.Pieces.Count; id++)
        {
            texts.Add(pieces.Pieces[id].Text, id);
        }

        foreach (JsonProperty token in file.Root.EnumerateObject())
        {
            int id = file.Int(token.Name, 0, config.VocabularySize - 1);
            bool fits = texts.TryGetValue(token.Name, out int known) ? known == id : id >= pieces.Pieces.Count;
            if (token.Name.Length == 0 || !fits || !ids.Add(id))
            {
                LlamaFormatException.ThrowCorrupt(file.Name, token.Name, "an id of its own", $"{id}");
            }

            yield return new AddedToken(token.Name, id) { IsSpecial = known == id && id < pieces.Pieces.Count && pieces.Pieces[id].Kind == PieceKind.Control };
        }
    }
}
