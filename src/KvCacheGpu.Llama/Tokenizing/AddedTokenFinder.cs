using System.Buffers;
using System.Globalization;
using System.Text;

namespace KvCacheGpu.Llama;

/// <summary>Finds added tokens in text: the leftmost first, and of several at one place the longest.</summary>
internal sealed class AddedTokenFinder
{
    private readonly Dictionary<string, AddedToken> _tokens = new(StringComparer.Ordinal);
    private readonly Dictionary<string, AddedToken>.AlternateLookup<ReadOnlySpan<char>> _bySpan;
    private readonly SearchValues<string> _contents;
    private readonly int[] _lengths;

    /// <summary>Takes the tokens, each with the text to search for.</summary>
    public AddedTokenFinder(IEnumerable<(string Text, AddedToken Token)> tokens)
    {
        foreach ((string text, AddedToken token) in tokens)
        {
            // If two tokens have the same normalized form, the first one is found.
            _tokens.TryAdd(text, token);
        }

        _tokens.Remove(string.Empty);
        _bySpan = _tokens.GetAlternateLookup<ReadOnlySpan<char>>();
        _contents = SearchValues.Create([.. _tokens.Keys], StringComparison.Ordinal);
        _lengths = [.. _tokens.Keys.Select(t => t.Length).Distinct().OrderDescending()];
    }

    /// <summary>Cuts a text into tokens and the texts between them, in order. Empty texts are left out.</summary>
    public IEnumerable<(int Start, int End, AddedToken? Token)> Split(string text)
    {
        int done = 0;
        int from = 0;
        while (_lengths.Length > 0 && text.AsSpan(from).IndexOfAny(_contents) is >= 0 and int offset)
        {
            (int start, int end, AddedToken token) = LongestAt(text, from + offset);
            from = end;
            if (token.IsSingleWord && (EndsWithWord(text.AsSpan(0, start)) || StartsWithWord(text.AsSpan(end))))
            {
                continue;
            }

            // White space that the token before has taken cannot be taken again.
            start = token.TakesSpaceBefore ? Math.Max(done, text.AsSpan(0, start).TrimEnd().Length) : start;
            end = token.TakesSpaceAfter ? text.Length - text.AsSpan(end).TrimStart().Length : end;
            if (done < start)
            {
                yield return (done, start, null);
            }

            yield return (start, end, token);
            done = end;
        }

        if (done < text.Length)
        {
            yield return (done, text.Length, null);
        }
    }

    private static bool StartsWithWord(ReadOnlySpan<char> text) => Rune.DecodeFromUtf16(text, out Rune first, out _) == OperationStatus.Done && IsWord(first);

    private static bool EndsWithWord(ReadOnlySpan<char> text) => Rune.DecodeLastFromUtf16(text, out Rune last, out _) == OperationStatus.Done && IsWord(last);

    // \w of Unicode's regular expressions: alphabetic characters, marks, decimal digits, connectors and joiners.
    private static bool IsWord(Rune rune) => Rune.GetUnicodeCategory(rune) switch
    {
        UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter or UnicodeCategory.ModifierLetter
            or UnicodeCategory.OtherLetter or UnicodeCategory.LetterNumber or UnicodeCategory.DecimalDigitNumber or UnicodeCategory.ConnectorPunctuation
            or UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.EnclosingMark => true,
        UnicodeCategory.OtherSymbol => rune.Value is (>= 0x24b6 and <= 0x24e9) or (>= 0x1f130 and <= 0x1f149) or (>= 0x1f150 and <= 0x1f169)
            or (>= 0x1f170 and <= 0x1f189),
        _ => rune.Value is 0x200c or 0x200d,
    };

    private (int Start, int End, AddedToken Token) LongestAt(string text, int start)
    {
        foreach (int length in _lengths)
        {
            if (start + length <= text.Length && _bySpan.TryGetValue(text.AsSpan(start, length), out AddedToken? token))
            {
                return (start, start + length, token);
            }
        }

        throw new InvalidOperationException("a token was found that is not there");
    }
}
