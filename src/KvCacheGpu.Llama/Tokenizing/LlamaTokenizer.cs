using System.Text;
using KvCacheGpu.Serving;

namespace KvCacheGpu.Llama;

/// <summary>A checkpoint's tokenizer, byte-level BPE or SentencePiece BPE: text to token ids and back. Thread safety: members may be called from any thread at once.</summary>
public sealed class LlamaTokenizer : IKvTokenizer
{
    private readonly TokenizerParts _parts;
    private readonly AddedTokenFinder _raw;
    private readonly AddedTokenFinder _normalized;
    private readonly Dictionary<string, int> _vocabulary = new(StringComparer.Ordinal);
    private readonly byte[]?[] _bytes;
    private readonly HashSet<int> _special;

    private LlamaTokenizer(TokenizerParts parts, int? start, int size)
    {
        (_parts, BosTokenId) = (parts, start);
        _bytes = new byte[]?[size];
        foreach ((string token, int id) in parts.Model.Vocabulary)
        {
            _vocabulary[token] = id;
            _bytes[id] = parts.Model.Decode(token, id);
        }

        foreach (AddedToken token in parts.Added)
        {
            _vocabulary[token.Content] = token.Id;
            _bytes[token.Id] = Encoding.UTF8.GetBytes(parts.Model is SentencePieceModel ? token.Content.Replace('\u2581', ' ') : token.Content);
        }

        _special = [.. parts.Added.Where(t => t.IsSpecial).Select(t => t.Id), .. parts.Silent];
        _raw = new AddedTokenFinder(parts.Added.Where(t => !t.IsNormalized).Select(t => (t.Content, t)));
        _normalized = new AddedTokenFinder(parts.Added.Where(t => t.IsNormalized).Select(t => (parts.Normalize(t.Content, false), t)));
    }

    /// <summary>The token that starts every text; null if texts start without one.</summary>
    public int? BosTokenId { get; }

    /// <summary>Ids by token, written in the vocabulary's letters (a space is <c>Ġ</c> in byte-level ones, <c>▁</c> in SentencePiece's).</summary>
    public IReadOnlyDictionary<string, int> Vocabulary => _vocabulary;

    /// <summary>
    /// Reads tokenizer.json, or vocab.json and merges.txt, or tokenizer.model; null if a directory has none of them. A tokenizer.model
    /// is preferred to a tokenizer.json that was made from it.
    /// </summary>
    /// <param name="directory">The model directory.</param>
    /// <param name="config">Its configuration: sizes and the tokens that start and end texts.</param>
    /// <exception cref="LlamaFormatException">One of the pair is missing (E002), a file is malformed (E004), or the tokenizer is of another kind (E009).</exception>
    public static LlamaTokenizer? Load(string directory, LlamaConfig config)
    {
        ArgumentNullException.ThrowIfNull(directory);
        ArgumentNullException.ThrowIfNull(config);
        return Parts(directory, config) is { } parts
            ? new LlamaTokenizer(parts, StartReader.Of(directory, config, parts), config.VocabularySize)
            : null;
    }

    /// <summary>The tokens of a text.</summary>
    /// <param name="text">The text. The text of an added token in it (<c>&lt;eos&gt;</c>) becomes that token.</param>
    /// <param name="start">True to begin with the token that starts every text. The default value is true.</param>
    /// <exception cref="ArgumentException">The vocabulary cannot spell the text.</exception>
    /// <exception cref="LlamaFormatException">The tokenizer's pattern takes too long on this text (E009).</exception>
    public int[] Encode(string text, bool start = true)
    {
        ArgumentNullException.ThrowIfNull(text);
        List<int> ids = [];
        if (start && BosTokenId is { } bos)
        {
            ids.Add(bos);
        }

        foreach ((int from, int to, AddedToken? token) in _raw.Split(text))
        {
            if (token is null)
            {
                EncodePlain(_parts.Normalize(text[from..to], from == 0), from == 0, ids);
            }
            else
            {
                ids.Add(token.Id);
            }
        }

        return [.. ids];
    }

    /// <summary>The text of tokens. Bytes that are not UTF-8 become U+FFFD.</summary>
    /// <param name="ids">The tokens.</param>
    /// <param name="includeSpecial">True to write out tokens that start or end texts. The default value is false.</param>
    /// <exception cref="ArgumentOutOfRangeException">An id is beyond the vocabulary.</exception>
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

        bool isPadded = _parts.DropsFirstSpace && bytes.Count > 0 && bytes[0] == ' ';
        return Encoding.UTF8.GetString(isPadded ? [.. bytes[1..]] : [.. bytes]);
    }

    /// <summary>The bytes of one token, for text that is written while it is generated. A character may span several tokens.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The id is beyond the vocabulary.</exception>
    public ReadOnlySpan<byte> Bytes(int id)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(id);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(id, _bytes.Length);
        return _bytes[id];
    }

    /// <inheritdoc/>
    ReadOnlySpan<byte> IKvTokenizer.Bytes(int token) => IsSpecial(token) ? [] : Bytes(token);

    /// <summary>True if a token starts or ends texts, and stands for no text.</summary>
    public bool IsSpecial(int id) => _special.Contains(id);

    private static TokenizerParts? Parts(string directory, LlamaConfig config)
    {
        string whole = Path.Combine(directory, "tokenizer.json");
        string pieces = Path.Combine(directory, "tokenizer.model");
        if (File.Exists(whole) && !(File.Exists(pieces) && TokenizerJson.IsFromSentencePiece(whole)))
        {
            return TokenizerJson.Read(whole, config);
        }

        string vocabulary = Path.Combine(directory, "vocab.json");
        string merges = Path.Combine(directory, "merges.txt");
        if (!File.Exists(vocabulary) && !File.Exists(merges))
        {
            return File.Exists(pieces) ? SentencePieceReader.Read(pieces, config) : null;
        }

        if (!File.Exists(vocabulary) || !File.Exists(merges))
        {
            LlamaFormatException.ThrowMissing(File.Exists(merges) ? vocabulary : merges, "vocab.json and merges.txt together");
        }

        return VocabularyPair.Read(vocabulary, merges, config);
    }

    private void EncodePlain(string text, bool first, List<int> ids)
    {
        foreach ((int from, int to, AddedToken? token) in _normalized.Split(text))
        {
            if (token is not null)
            {
                ids.Add(token.Id);
                continue;
            }

            bool isFirst = first && from == 0;
            IEnumerable<string> words = [text[from..to]];
            foreach (WordStep step in _parts.Steps)
            {
                words = words.SelectMany(w => step.Cut(w, isFirst));
            }

            foreach (string word in words)
            {
                _parts.Model.Encode(word, ids);
            }
        }
    }
}
