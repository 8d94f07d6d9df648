using System.Text.Json;

namespace KvCacheGpu.Llama;

/// <summary>Reads added_tokens.json: tokens beyond those of tokenizer.model, by content.</summary>
internal static class AddedTokens
{
    /// <summary>Adds the file's tokens, if there is one; a token that repeats a piece must have the piece's id.</summary>
    public static void Read(string path, SentencePieceFile pieces, LlamaConfig config, Dictionary<string, int> added)
    {
        if (!File.Exists(path))
        {
            return;
        }

        JsonFile file = JsonFile.Open(path);
        HashSet<int> ids = [];
        foreach (JsonProperty token in file.Root.EnumerateObject())
        {
            int id = file.Int(token.Name, 0, config.VocabularySize - 1);
            bool isPiece = id < pieces.Pieces.Count;
            bool fits = isPiece ? pieces.Pieces[id].Text == token.Name : pieces.Pieces.TrueForAll(p => p.Text != token.Name);
            if (token.Name.Length == 0 || !fits || !ids.Add(id))
            {
                LlamaFormatException.ThrowCorrupt(file.Name, token.Name, "an id of its own", $"{id}");
            }

            added[token.Name] = id;
        }
    }
}
