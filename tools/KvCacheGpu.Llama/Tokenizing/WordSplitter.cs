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

    private static bool InsidePair(string text, int index) =>
        index > 0 && index < text.Length && char.IsLowSurrogate(text[index]) && char.IsHighSurrogate(text[index - 1]);

    private static IEnumerable<(int Offset, int Length)> Split(Regex pattern, string text, int offset, int length)
    {
        // A piece is matched by itself: patterns must not look beyond it.
        string piece = length == text.Length ? text : text.Substring(offset, length);
        int next = 0;
        for (int from = 0; from <= length && pattern.Match(piece, from) is { Success: true } match;)
        {
            from = match.Index + 1;
            if (match.Length == 0)
            {
                continue;
            }

            // Patterns are written for code points: a surrogate pair is never cut.
            int start = Math.Max(next, match.Index - (InsidePair(piece, match.Index) ? 1 : 0));
            int end = match.Index + match.Length;
            end += InsidePair(piece, end) ? 1 : 0;
            if (start > next)
            {
                yield return (offset + next, start - next);
            }

            yield return (offset + start, end - start);
            (next, from) = (end, end);
        }

        if (next < length)
        {
            yield return (offset + next, length - next);
        }
    }
}
