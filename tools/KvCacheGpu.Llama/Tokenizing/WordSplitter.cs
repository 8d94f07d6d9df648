using System.Text.RegularExpressions;
using Microsoft.ML.Tokenizers;

namespace KvCacheGpu.Llama;

/// <summary>Cuts text by several patterns, each within the pieces of the one before; what no pattern matches is a piece of its own.</summary>
internal sealed class WordSplitter(IReadOnlyList<Regex> patterns) : PreTokenizer
{
    /// <inheritdoc/>
    public override IEnumerable<(int Offset, int Length)> PreTokenize(string text)
    {
        IEnumerable<(int Offset, int Length)> pieces = text.Length == 0 ? [] : [(0, text.Length)];
        foreach (Regex pattern in patterns)
        {
            pieces = pieces.SelectMany(p => Split(pattern, text, p.Offset, p.Length));
        }

        return pieces;
    }

    /// <inheritdoc/>
    public override IEnumerable<(int Offset, int Length)> PreTokenize(ReadOnlySpan<char> text) => PreTokenize(text.ToString());

    private static IEnumerable<(int Offset, int Length)> Split(Regex pattern, string text, int offset, int length)
    {
        // A piece is matched by itself: patterns must not look beyond it.
        string piece = length == text.Length ? text : text.Substring(offset, length);
        int next = 0;
        for (Match match = pattern.Match(piece); match.Success; match = match.NextMatch())
        {
            if (match.Length == 0)
            {
                continue;
            }

            if (match.Index > next)
            {
                yield return (offset + next, match.Index - next);
            }

            yield return (offset + match.Index, match.Length);
            next = match.Index + match.Length;
        }

        if (next < length)
        {
            yield return (offset + next, length - next);
        }
    }
}
