using System.Text;

namespace KvCacheGpu.Llama;

/// <summary>SentencePiece BPE: spaces are letters (▁), pairs are joined by score, and characters that have no piece are spelled in bytes.</summary>
internal sealed class SentencePieceModel : TextModel, IPairTable
{
    private const char Space = '\u2581';

    private readonly SentencePieceFile _file;
    private readonly Dictionary<string, int> _vocabulary = new(StringComparer.Ordinal);
    private readonly Dictionary<string, (int Id, int Rank)> _pieces = new(StringComparer.Ordinal);
    private readonly Dictionary<string, (int Id, int Rank)>.AlternateLookup<ReadOnlySpan<char>> _bySpan;
    private readonly int[] _bytes = new int[256];
    private readonly int _longest;

    public SentencePieceModel(SentencePieceFile file)
    {
        _file = file;
        _bySpan = _pieces.GetAlternateLookup<ReadOnlySpan<char>>();
        float[] scores = [.. file.Pieces.Select(p => p.Score).Distinct().OrderDescending()];
        Dictionary<float, int> ranks = scores.Select((s, i) => (s, i)).ToDictionary(p => p.s, p => p.i);
        for (int id = 0; id < file.Pieces.Count; id++)
        {
            (string text, PieceKind kind, float score) = file.Pieces[id];
            _vocabulary.Add(text, id);

            // The letters of a text never become a control or byte piece: "<s>" is three letters.
            if (kind is PieceKind.Normal or PieceKind.UserDefined)
            {
                _pieces.Add(text, (id, ranks[score]));
                _longest = Math.Max(_longest, text.Length);
            }
            else if (kind == PieceKind.Byte)
            {
                _bytes[MergeModel.ByteOf(text)] = id;
            }
        }
    }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, int> Vocabulary => _vocabulary;

    /// <summary>Writes text in the letters of the pieces: with ▁ for spaces, and one before the text if the file says so.</summary>
    public string Normalize(string text, bool first) => (first && _file.AddsSpace ? " " + text : text).Replace(' ', Space);

    /// <inheritdoc/>
    public override void Encode(string word, List<int> ids)
    {
        List<WordPart> letters = new(word.Length);
        for (int i = 0; i < word.Length; i++)
        {
            int length = char.IsHighSurrogate(word[i]) && i + 1 < word.Length && char.IsLowSurrogate(word[i + 1]) ? 2 : 1;
            int id = _bySpan.TryGetValue(word.AsSpan(i, length), out (int Id, int Rank) piece) ? piece.Id : -1;
            letters.Add(new WordPart(id, i, length));
            i += length - 1;
        }

        foreach (WordPart part in PairMerger.Merge(this, word, letters))
        {
            if (part.Id >= 0)
            {
                ids.Add(part.Id);
            }
            else if (_file.FallsBackToBytes)
            {
                ids.AddRange(Encoding.UTF8.GetBytes(word.Substring(part.Start, part.Length)).Select(b => _bytes[b]));
            }
            else
            {
                throw new ArgumentException("the vocabulary cannot spell the text, and has no bytes to fall back to", nameof(word));
            }
        }
    }

    /// <inheritdoc/>
    public bool TryJoin(string word, WordPart left, WordPart right, out int id, out int rank)
    {
        (int Id, int Rank) piece = default;
        int length = left.Length + right.Length;
        bool isPiece = length <= _longest && _bySpan.TryGetValue(word.AsSpan(left.Start, length), out piece);
        (id, rank) = piece;
        return isPiece;
    }

    /// <inheritdoc/>
    public override byte[] Decode(string piece, int id) =>
        _file.Pieces[id].Kind == PieceKind.Byte ? [(byte)MergeModel.ByteOf(piece)] : Encoding.UTF8.GetBytes(piece.Replace(Space, ' '));
}
