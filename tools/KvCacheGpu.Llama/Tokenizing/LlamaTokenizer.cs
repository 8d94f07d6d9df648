using System.Text;
using System.Text.RegularExpressions;
using Microsoft.ML.Tokenizers;

namespace KvCacheGpu.Llama;

/// <summary>A checkpoint's byte-level BPE tokenizer: text to token ids and back.</summary>
public sealed class LlamaTokenizer
{
    private readonly BpeTokenizer _bpe;
    private readonly byte[]?[] _bytes;
    private readonly Dictionary<string, int> _vocabulary;
    private readonly Dictionary<string, int> _added;
    private readonly HashSet<int> _special;
    private readonly Regex? _addedPattern;
    private readonly bool[] _known = new bool[256];
    private readonly bool _prefixSpace;

    private LlamaTokenizer(TokenizerFiles files, LlamaConfig config)
    {
        (_vocabulary, _added, _special, _prefixSpace) = (files.Vocabulary, files.Added, files.Special, files.PrefixSpace);
        BosTokenId = config.BosTokenId;
        try
        {
            _bpe = BpeTokenizer.Create(new BpeOptions(files.Vocabulary)
            {
                Merges = files.Merges,
                ByteLevel = true,
                PreTokenizer = new WordSplitter(files.Splits),
            });
        }
        catch (Exception error) when (error is ArgumentException or InvalidOperationException or FormatException)
        {
            LlamaFormatException.ThrowCorrupt(files.File, "tokenizer", "a byte-level BPE vocabulary", error.Message, error);
        }

        _bytes = new byte[]?[config.VocabularySize];
        foreach ((string token, int id) in files.Vocabulary)
        {
            _bytes[id] = _added.ContainsKey(token) ? Encoding.UTF8.GetBytes(token) : ByteAlphabet.Decode(token);
        }

        for (int value = 0; value < _known.Length; value++)
        {
            _known[value] = files.Vocabulary.ContainsKey(ByteAlphabet.Letter((byte)value).ToString());
        }

        if (_added.Count > 0)
        {
            // Longest first: one added token may begin another.
            IEnumerable<string> patterns = _added.Keys.OrderByDescending(t => t.Length).ThenBy(t => t, StringComparer.Ordinal).Select(Regex.Escape);
            _addedPattern = TokenizerFiles.Pattern(files.File, string.Join('|', patterns));
        }
    }

    /// <summary>The token that starts every text; null where the model has none.</summary>
    public int? BosTokenId { get; }

    /// <summary>Ids by token, in the letters of byte-level vocabularies (a space is <c>Ġ</c>).</summary>
    public IReadOnlyDictionary<string, int> Vocabulary => _vocabulary;

    /// <summary>Reads tokenizer.json, or vocab.json and merges.txt; null where a directory has neither.</summary>
    /// <param name="directory">The model directory.</param>
    /// <param name="config">Its configuration: sizes and the tokens that start and end texts.</param>
    /// <exception cref="LlamaFormatException">One of the pair is missing (E002), a file is malformed (E004), or another kind of tokenizer (E009).</exception>
    public static LlamaTokenizer? Load(string directory, LlamaConfig config)
    {
        ArgumentNullException.ThrowIfNull(directory);
        ArgumentNullException.ThrowIfNull(config);
        string whole = Path.Combine(directory, "tokenizer.json");
        if (File.Exists(whole))
        {
            return new LlamaTokenizer(TokenizerFiles.ReadTokenizerJson(whole, config), config);
        }

        string vocabulary = Path.Combine(directory, "vocab.json");
        string merges = Path.Combine(directory, "merges.txt");
        if (!File.Exists(vocabulary) && !File.Exists(merges))
        {
            return null;
        }

        if (!File.Exists(vocabulary) || !File.Exists(merges))
        {
            LlamaFormatException.ThrowMissing(File.Exists(merges) ? vocabulary : merges, "vocab.json and merges.txt together");
        }

        return new LlamaTokenizer(TokenizerFiles.ReadPair(vocabulary, merges, config), config);
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
            EncodePlain(text[next..match.Index], ids);
            ids.Add(_added[match.Value]);
            next = match.Index + match.Length;
        }

        EncodePlain(text[next..], ids);
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

        return Encoding.UTF8.GetString([.. bytes]);
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

    private void EncodePlain(string text, List<int> ids)
    {
        if (text.Length == 0)
        {
            return;
        }

        foreach (byte value in Encoding.UTF8.GetBytes(text))
        {
            if (!_known[value])
            {
                throw new ArgumentException($"the vocabulary has no token for byte 0x{value:x2}", nameof(text));
            }
        }

        ids.AddRange(_bpe.EncodeToIds(_prefixSpace && text[0] != ' ' ? ' ' + text : text));
    }
}
