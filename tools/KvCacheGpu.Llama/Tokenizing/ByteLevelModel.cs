using System.Text;
using Microsoft.ML.Tokenizers;

namespace KvCacheGpu.Llama;

/// <summary>Byte-level BPE (GPT-2): text is cut into words, words into letters that stand for bytes, letters are merged.</summary>
internal sealed class ByteLevelModel : TextModel
{
    private readonly TokenizerFiles _files;
    private readonly BpeTokenizer _bpe;
    private readonly WordSplitter _words;
    private readonly bool[] _known = new bool[256];

    public ByteLevelModel(TokenizerFiles files)
    {
        _files = files;
        _words = new WordSplitter(files.Splits);
        try
        {
            _bpe = BpeTokenizer.Create(new BpeOptions(files.Vocabulary) { Merges = files.Merges, ByteLevel = true, PreTokenizer = _words });
        }
        catch (Exception error) when (error is ArgumentException or InvalidOperationException or FormatException)
        {
            LlamaFormatException.ThrowCorrupt(files.File, "tokenizer", "a byte-level BPE vocabulary", error.Message, error);
        }

        for (int value = 0; value < _known.Length; value++)
        {
            _known[value] = files.Vocabulary.ContainsKey(ByteAlphabet.Letter((byte)value).ToString());
        }
    }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, int> Vocabulary => _files.Vocabulary;

    /// <inheritdoc/>
    public override IReadOnlyList<int> Encode(string text, bool first)
    {
        text = _files.Composes ? ComposedText.Of(text) : text;
        foreach (byte value in Encoding.UTF8.GetBytes(text))
        {
            if (!_known[value])
            {
                throw new ArgumentException($"the vocabulary has no token for byte 0x{value:x2}", nameof(text));
            }
        }

        text = _files.PrefixSpace && text[0] != ' ' ? ' ' + text : text;
        return _files.IgnoresMerges ? EncodeWords(text) : _bpe.EncodeToIds(text);
    }

    /// <inheritdoc/>
    public override byte[] Decode(string piece, int id) =>
        _files.Added.ContainsKey(piece) ? Encoding.UTF8.GetBytes(piece) : ByteAlphabet.Decode(piece);

    // A word that the vocabulary has whole is that token, even where no merges lead to it.
    private List<int> EncodeWords(string text)
    {
        List<int> ids = [];
        foreach ((int offset, int length) in _words.PreTokenize(text))
        {
            string word = text.Substring(offset, length);
            string letters = string.Concat(Encoding.UTF8.GetBytes(word).Select(ByteAlphabet.Letter));
            if (_files.Vocabulary.TryGetValue(letters, out int id))
            {
                ids.Add(id);
            }
            else
            {
                ids.AddRange(_bpe.EncodeToIds(word, considerPreTokenization: false));
            }
        }

        return ids;
    }
}
