using System.Globalization;
using System.Text;
using Microsoft.ML.Tokenizers;

namespace KvCacheGpu.Llama;

/// <summary>SentencePiece BPE: spaces are letters (▁), pairs are merged by score, and what has no piece is spelled in bytes.</summary>
internal sealed class SentencePieceModel : TextModel
{
    private const char Space = '\u2581';

    private readonly SentencePieceFile _file;
    private readonly SentencePieceTokenizer _tokenizer;
    private readonly Dictionary<string, int> _vocabulary;
    private readonly int _unknown;

    public SentencePieceModel(SentencePieceFile file, IReadOnlyDictionary<string, int> added)
    {
        _file = file;
        _unknown = file.Pieces.FindIndex(p => p.Kind == PieceKind.Unknown);
        _vocabulary = new(StringComparer.Ordinal);
        for (int id = 0; id < file.Pieces.Count; id++)
        {
            _vocabulary.Add(file.Pieces[id].Text, id);
        }

        foreach ((string content, int id) in added.Where(t => t.Value >= file.Pieces.Count))
        {
            _vocabulary.Add(content, id);
        }

        try
        {
            using MemoryStream stream = new(file.Content);
            _tokenizer = SentencePieceTokenizer.Create(stream, addBeginningOfSentence: false, addEndOfSentence: false);
        }
        catch (Exception error) when (error is not OutOfMemoryException)
        {
            LlamaFormatException.ThrowCorrupt(file.Name, "tokenizer", "a SentencePiece BPE vocabulary", error.Message, error);
        }
    }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, int> Vocabulary => _vocabulary;

    /// <inheritdoc/>
    public override bool AddsSpace => _file.AddsSpace;

    /// <summary>The byte that a piece <c>&lt;0x0A&gt;</c> stands for, or -1.</summary>
    public static int ByteOf(string piece) =>
        piece.Length == 6 && piece.StartsWith("<0x", StringComparison.Ordinal) && piece[5] == '>'
        && byte.TryParse(piece.AsSpan(3, 2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out byte value) ? value : -1;

    /// <inheritdoc/>
    public override IReadOnlyList<int> Encode(string text, bool first)
    {
        // Only the start of a text gets a space; the library's own normalizer would give one to every part between added tokens.
        string escaped = (first && AddsSpace ? " " + text : text).Replace(' ', Space);
        IReadOnlyList<int> ids = _tokenizer.EncodeToIds(escaped, considerPreTokenization: false, considerNormalization: false);
        if (ids.Contains(_unknown))
        {
            throw new ArgumentException("the vocabulary cannot spell the text, and has no bytes to fall back to", nameof(text));
        }

        return ids;
    }

    /// <inheritdoc/>
    public override byte[] Decode(string piece, int id)
    {
        PieceKind kind = id < _file.Pieces.Count ? _file.Pieces[id].Kind : PieceKind.UserDefined;
        return kind == PieceKind.Byte ? [(byte)ByteOf(piece)] : Encoding.UTF8.GetBytes(piece.Replace(Space, ' '));
    }
}
