using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace KvCacheGpu.Llama;

/// <summary>
/// A pattern of a tokenizer's file by which words are cut, matched by code points. Since .NET matches UTF-16 units, a letter beyond U+FFFF is
/// shown to it as a letter of the same Unicode category that the pattern does not name. Patterns without a look ahead match in linear time; others
/// are stopped after a time limit.
/// </summary>
internal sealed class WordPattern
{
    private static readonly TimeSpan MatchLimit = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan TextLimit = TimeSpan.FromSeconds(10);

    // The time limit grows by a second for every so many characters of a text.
    private const int CharactersInSecond = 100_000;

    private static readonly char[][] Letters = LettersByCategory();

    private readonly string _file;
    private readonly Regex _regex;
    private readonly char[] _standIns;

    private WordPattern(string file, Regex regex, char[] standIns) => (_file, _regex, _standIns) = (file, regex, standIns);

    /// <summary>Reads a pattern in the syntax that means the same in .NET and in Oniguruma (Hugging Face's engine).</summary>
    /// <exception cref="LlamaFormatException">The pattern is no regular expression (E004), or goes beyond that syntax (E009).</exception>
    public static WordPattern Read(string file, string pattern)
    {
        PatternSyntax syntax = PatternSyntax.Read(file, pattern);
        RegexOptions options = RegexOptions.CultureInvariant | (syntax.LooksAhead ? RegexOptions.None : RegexOptions.NonBacktracking);
        try
        {
            return new WordPattern(file, new Regex(syntax.Pattern, options, MatchLimit), StandIns(syntax));
        }
        catch (ArgumentException error)
        {
            LlamaFormatException.ThrowCorrupt(file, "pre_tokenizer", "a regular expression", error.Message, error);
        }
        catch (NotSupportedException)
        {
            LlamaFormatException.ThrowUnsupported(file, "pre_tokenizer", "a pattern of moderate size", pattern);
        }

        return null!;
    }

    /// <summary>Makes a pattern that matches a text literally.</summary>
    public static WordPattern Literal(string file, string text) =>
        new(file, new Regex(Regex.Escape(text), RegexOptions.CultureInvariant | RegexOptions.NonBacktracking), []);

    /// <summary>Cuts a text into pieces in order: those that match and those between them. No piece is empty.</summary>
    /// <exception cref="LlamaFormatException">
    /// The pattern takes too long on this text, or names every letter that could stand in for one of its letters (E009).
    /// </exception>
    public List<(int Start, int End, bool IsMatch)> Cut(string text)
    {
        int[]? offsets = _standIns.Length > 0 && text.AsSpan().ContainsAnyInRange('\ud800', '\udfff') ? new int[text.Length + 1] : null;
        string shown = offsets is null ? text : Show(text, offsets);
        List<(int Start, int End, bool IsMatch)> pieces = [];
        TimeSpan limit = TextLimit + TimeSpan.FromSeconds(text.Length / CharactersInSecond);
        long begun = Stopwatch.GetTimestamp();
        int done = 0;
        try
        {
            for (Match match = _regex.Match(shown); match.Success; match = match.NextMatch())
            {
                Add(done, match.Index, false);
                Add(match.Index, match.Index + match.Length, true);
                done = match.Index + match.Length;
                if (Stopwatch.GetElapsedTime(begun) > limit)
                {
                    throw new RegexMatchTimeoutException();
                }
            }
        }
        catch (RegexMatchTimeoutException)
        {
            LlamaFormatException.ThrowUnsupported(
                _file, "pre_tokenizer", $"a pattern that cuts a text of {text.Length} characters in {limit.TotalSeconds:f0} s", "one that runs away");
        }

        Add(done, shown.Length, false);
        return pieces;

        void Add(int start, int end, bool isMatch)
        {
            if (start < end)
            {
                pieces.Add(offsets is null ? (start, end, isMatch) : (offsets[start], offsets[end], isMatch));
            }
        }
    }

    // Writes one character for each code point, with the offset at which the code point begins in the text.
    private string Show(string text, int[] offsets)
    {
        StringBuilder shown = new(text.Length);
        for (int i = 0; i < text.Length; i++)
        {
            offsets[shown.Length] = i;
            bool isPair = char.IsHighSurrogate(text[i]) && i + 1 < text.Length && char.IsLowSurrogate(text[i + 1]);
            shown.Append(isPair ? StandIn(CharUnicodeInfo.GetUnicodeCategory(text, i)) : text[i]);
            i += isPair ? 1 : 0;
        }

        offsets[shown.Length] = text.Length;
        return shown.ToString();
    }

    private char StandIn(UnicodeCategory category)
    {
        if (_standIns[(int)category] == 0)
        {
            LlamaFormatException.ThrowUnsupported(
                _file, "pre_tokenizer", $"a pattern that does not name all characters up to U+FFFF of {category}", "one of them beyond U+FFFF in the text");
        }

        return _standIns[(int)category];
    }

    // The first character of each category that the pattern does not name, 0 where it names all; patterns name few.
    private static char[] StandIns(PatternSyntax syntax) => Array.ConvertAll(Letters, letters => Array.Find(letters, c => !syntax.Names(c)));

    // By category, those beyond ASCII. Control characters, separators and surrogates are never beyond U+FFFF, and have no stand-in.
    private static char[][] LettersByCategory() =>
    [
        .. Enum.GetValues<UnicodeCategory>().Select(category => category
            is UnicodeCategory.Control or UnicodeCategory.SpaceSeparator or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator
                or UnicodeCategory.Surrogate
            ? []
            : Enumerable.Range(0x80, char.MaxValue - 0x7f).Select(c => (char)c).Where(c => CharUnicodeInfo.GetUnicodeCategory(c) == category).ToArray()),
    ];
}
