using System.Globalization;
using System.Text;

namespace KvCacheGpu.Llama;

/// <summary>BPE by a list of merges, as in Hugging Face's tokenizer.json. Its letters are bytes, or characters that fall back to bytes.</summary>
internal sealed class MergeModel : TextModel, IPairTable
{
    private const char Space = '\u2581';

    private readonly Dictionary<string, int> _words;
    private readonly Dictionary<string, int>.AlternateLookup<ReadOnlySpan<char>> _bySpan;
    private readonly Dictionary<(int Left, int Right), (int Id, int Rank)> _pairs = [];
    private readonly int[]? _bytes;
    private readonly bool _ignoresMerges;

    /// <summary>Takes a vocabulary that has been checked.</summary>
    /// <param name="words">Ids by token.</param>
    /// <param name="merges">Pairs that are joined to a token, in the order in which they are joined.</param>
    /// <param name="bytes">The tokens of the 256 bytes, for characters that are not in the vocabulary; null if letters are bytes.</param>
    /// <param name="ignoresMerges">True if a word that is in the vocabulary becomes that token without merges (Llama 3).</param>
    public MergeModel(Dictionary<string, int> words, IEnumerable<(string Left, string Right)> merges, int[]? bytes, bool ignoresMerges)
    {
        (_words, _bytes, _ignoresMerges) = (words, bytes, ignoresMerges);
        _bySpan = words.GetAlternateLookup<ReadOnlySpan<char>>();
        int rank = 0;
        foreach ((string left, string right) in merges)
        {
            // If a pair is listed twice, the last one counts, as in Hugging Face's map.
            _pairs[(words[left], words[right])] = (words[left + right], rank++);
        }
    }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, int> Vocabulary => _words;

    /// <summary>The byte that a token <c>&lt;0x0A&gt;</c> stands for, or -1.</summary>
    public static int ByteOf(string piece) =>
        piece.Length == 6 && piece.StartsWith("<0x", StringComparison.Ordinal) && piece[5] == '>'
        && byte.TryParse(piece.AsSpan(3, 2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out byte value) ? value : -1;

    /// <inheritdoc/>
    public override void Encode(string word, List<int> ids)
    {
        if (_ignoresMerges && _words.TryGetValue(word, out int whole))
        {
            ids.Add(whole);
            return;
        }

        List<WordPart> letters = new(word.Length);
        for (int i = 0; i < word.Length; i++)
        {
            int length = char.IsHighSurrogate(word[i]) && i + 1 < word.Length && char.IsLowSurrogate(word[i + 1]) ? 2 : 1;
            if (_bySpan.TryGetValue(word.AsSpan(i, length), out int id))
            {
                letters.Add(new WordPart(id, i, length));
            }
            else
            {
                AddBytes(word.AsSpan(i, length), i, letters);
            }

            i += length - 1;
        }

        ids.AddRange(PairMerger.Merge(this, word, letters).Select(p => p.Id));
    }

    /// <inheritdoc/>
    public bool TryJoin(string word, WordPart left, WordPart right, out int id, out int rank)
    {
        bool isPair = _pairs.TryGetValue((left.Id, right.Id), out (int Id, int Rank) pair);
        (id, rank) = pair;
        return isPair;
    }

    /// <inheritdoc/>
    public override byte[] Decode(string piece, int id) => _bytes switch
    {
        null => ByteAlphabet.Decode(piece),
        _ when ByteOf(piece) is >= 0 and int value && _bytes[value] == id => [(byte)value],
        _ => Encoding.UTF8.GetBytes(piece.Replace(Space, ' ')),
    };

    private void AddBytes(ReadOnlySpan<char> letter, int start, List<WordPart> letters)
    {
        if (_bytes is null)
        {
            throw new ArgumentException($"the vocabulary has no token for byte 0x{ByteAlphabet.Decode(letter.ToString())[0]:x2}", nameof(letter));
        }

        Span<byte> bytes = stackalloc byte[4];
        foreach (byte value in bytes[..Encoding.UTF8.GetBytes(letter, bytes)])
        {
            letters.Add(new WordPart(_bytes[value], start, 0));
        }
    }
}
