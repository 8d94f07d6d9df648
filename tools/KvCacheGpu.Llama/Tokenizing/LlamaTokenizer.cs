using System.Text;
using System.Text.RegularExpressions;

namespace KvCacheGpu.Llama;

/// <summary>A checkpoint's tokenizer, byte-level BPE or SentencePiece BPE: text to token ids and back.</summary>
public sealed class LlamaTokenizer
{
    private readonly TextModel _model;
    private readonly byte[]?[] _bytes;
    private readonly Dictionary<string, int> _added;
    private readonly HashSet<int> _special;
    private readonly Regex? _addedPattern;

    private LlamaTokenizer(string file, TextModel model, Dictionary<string, int> added, HashSet<int> special, int? start, int size)
    {
        (_model, _added, _special, BosTokenId) = (model, added, special, start);
        _bytes = new byte[]?[size];
        foreach ((string token, int id) in model.Vocabulary)
        {
            _bytes[id] = model.Decode(token, id);
        }

        if (_added.Count > 0)
        {
            // Longest first: one added token may begin another.
            IEnumerable<string> patterns = _added.Keys.OrderByDescending(t => t.Length).ThenBy(t => t, StringComparer.Ordinal).Select(Regex.Escape);
            _addedPattern = TokenizerFiles.Pattern(file, string.Join('|', patterns));
        }
    }

    /// <summary>The token that starts every text; null where texts start without one.</summary>
    public int? BosTokenId { get; }

    /// <summary>Ids by token, in the vocabulary's letters (a space is <c>Ġ</c> in byte-level ones, <c>▁</c> in SentencePiece's).</summary>
    public IReadOnlyDictionary<string, int> Vocabulary => _model.Vocabulary;

    /// <summary>
    /// Reads tokenizer.json, or vocab.json and merges.txt, or tokenizer.model; null where a directory has none of them. A tokenizer.model
    /// goes before a tokenizer.json that was made from it.
    /// </summary>
    /// <param name="directory">The model directory.</param>
    /// <param name="config">Its configuration: sizes and the tokens that start and end texts.</param>
    /// <exception cref="LlamaFormatException">One of the pair is missing (E002), a file is malformed (E004), or another kind of tokenizer (E009).</exception>
    public static LlamaTokenizer? Load(string directory, LlamaConfig config)
    {
        ArgumentNullException.ThrowIfNull(directory);
        ArgumentNullException.ThrowIfNull(config);
        string whole = Path.Combine(directory, "tokenizer.json");
        string pieces = Path.Combine(directory, "tokenizer.model");
        int? start = TokenizerStart.Read(directory, config);
        if (File.Exists(whole) && !(File.Exists(pieces) && TokenizerFiles.IsFromSentencePiece(whole)))
        {
            return Create(TokenizerFiles.ReadTokenizerJson(whole, config));
        }

        string vocabulary = Path.Combine(directory, "vocab.json");
        string merges = Path.Combine(directory, "merges.txt");
        if (!File.Exists(vocabulary) && !File.Exists(merges))
        {
            return File.Exists(pieces) ? CreateFromPieces(pieces, start, config) : null;
        }

        if (!File.Exists(vocabulary) || !File.Exists(merges))
        {
            LlamaFormatException.ThrowMissing(File.Exists(merges) ? vocabulary : merges, "vocab.json and merges.txt together");
        }

        return Create(TokenizerFiles.ReadPair(vocabulary, merges, config));

        LlamaTokenizer Create(TokenizerFiles files) =>
            new(files.File, new ByteLevelModel(files), files.Added, files.Special, start, config.VocabularySize);
    }

    /// <summary>The tokens of a text.</summary>
    /// <param name="text">The text; an added token in it (<c>&lt;eos&gt;</c>) becomes that token.</param>
    /// <param name="start">Whether the token that starts every text comes first. The default value is true.</param>
    /// <exception cref="ArgumentException">The vocabulary lacks a byte of the text.</exception>
    public int[] Encode(string text, bool start = true)
    {
        ArgumentNullException.ThrowIfNull(text);
        List<int> ids = [];
        if (start && BosTokenId is { } bos)
        {
            ids.Add(bos);
        }

        int next = 0;
        for (Match? match = _addedPattern?.Match(text); match is { Success: true }; match = match.NextMatch())
        {
            EncodePlain(text[next..match.Index], next == 0, ids);
            ids.Add(_added[match.Value]);
            next = match.Index + match.Length;
        }

        EncodePlain(text[next..], next == 0, ids);
        return [.. ids];
    }

    /// <summary>The text of tokens; bytes that are not UTF-8 become U+FFFD.</summary>
    /// <param name="ids">The tokens.</param>
    /// <param name="includeSpecial">Whether tokens that start or end texts are spelled out. The default value is false.</param>
    public string Decode(ReadOnlySpan<int> ids, bool includeSpecial = false)
    {
        List<byte> bytes = new(ids.Length * 4);
        foreach (int id in ids)
        {
            if (includeSpecial || !IsSpecial(id))
            {
                bytes.AddRange(Bytes(id));
            }
        }

        bool isPadded = _model.AddsSpace && bytes.Count > 0 && bytes[0] == ' ';
        return Encoding.UTF8.GetString(isPadded ? [.. bytes[1..]] : [.. bytes]);
    }

    /// <summary>The bytes of one token, for text that appears as it is generated; a character may span several tokens.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The id is beyond the vocabulary.</exception>
    public ReadOnlySpan<byte> Bytes(int id)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(id);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(id, _bytes.Length);
        return _bytes[id];
    }

    /// <summary>Whether a token starts or ends texts rather than standing for text.</summary>
    public bool IsSpecial(int id) => _special.Contains(id);

    private static LlamaTokenizer CreateFromPieces(string path, int? start, LlamaConfig config)
    {
        SentencePieceFile file = SentencePieceFile.Read(path, config);
        Dictionary<string, int> added = new(StringComparer.Ordinal);
        HashSet<int> special = [];
        for (int id = 0; id < file.Pieces.Count; id++)
        {
            (string text, PieceKind kind) = file.Pieces[id];
            if (kind is PieceKind.Control or PieceKind.UserDefined)
            {
                added.Add(text.Replace('\u2581', ' '), id);
            }

            if (kind is PieceKind.Control or PieceKind.Unknown or PieceKind.Unused)
            {
                special.Add(id);
            }
        }

        AddedTokens.Read(Path.Combine(Path.GetDirectoryName(path)!, "added_tokens.json"), file, config, added);
        return new LlamaTokenizer(file.Name, new SentencePieceModel(file, added), added, special, start, config.VocabularySize);
    }

    private void EncodePlain(string text, bool first, List<int> ids)
    {
        if (text.Length > 0)
        {
            ids.AddRange(_model.Encode(text, first));
        }
    }
}
