using System.Globalization;
using System.Text;

namespace KvCacheGpu.Llama;

/// <summary>Strings as Python has them: sequences of code points, with Python's white space.</summary>
internal static class PythonText
{
    private const string Trimmed = "a set of letters beyond U+FFFF to strip";

    // Python's codes of a date, and what .NET has for each.
    private const string DateCodes = "dmbByYaAHIMSpFT%";
    private static readonly string[] DatePatterns =
        ["dd", "MM", "MMM", "MMMM", "yy", "yyyy", "ddd", "dddd", "HH", "hh", "mm", "ss", "tt", "yyyy-MM-dd", "HH:mm:ss", "\\%"];

    /// <summary>True for what Python's <c>str.isspace</c> and <c>\s</c> take.</summary>
    public static bool IsSpace(char letter) => char.IsWhiteSpace(letter) || letter is >= '\x1c' and <= '\x1f';

    /// <summary>Number of code points.</summary>
    public static int Length(string text)
    {
        int pairs = 0;
        for (int i = 1; i < text.Length; i++)
        {
            if (char.IsSurrogatePair(text[i - 1], text[i]))
            {
                pairs++;
                i++;
            }
        }

        return text.Length - pairs;
    }

    /// <summary>The code points, each as a string.</summary>
    public static List<object> Letters(string text)
    {
        List<object> letters = new(text.Length);
        for (int i = 0; i < text.Length; i++)
        {
            int length = i + 1 < text.Length && char.IsSurrogatePair(text[i], text[i + 1]) ? 2 : 1;
            letters.Add(text.Substring(i, length));
            i += length - 1;
        }

        return letters;
    }

    /// <summary>Drops letters from the ends, white space if none are named.</summary>
    public static string Strip(string text, string? letters, bool start, bool end)
    {
        if (letters is not null && letters.Any(char.IsSurrogate))
        {
            throw new JinjaException(Trimmed);
        }

        int from = 0;
        int to = text.Length;
        for (; start && from < to && Drops(text[from]); from++)
        {
        }

        for (; end && to > from && Drops(text[to - 1]); to--)
        {
        }

        return text[from..to];

        bool Drops(char letter) => letters is null ? IsSpace(letter) : letters.Contains(letter, StringComparison.Ordinal);
    }

    /// <summary>Cuts at a separator, or at white space if there is none; at most <paramref name="most"/> times if it is not negative.</summary>
    public static List<object> Split(string text, string? separator, long most)
    {
        if (separator is { Length: 0 })
        {
            throw new JinjaException("split by an empty separator");
        }

        List<object> parts = [];
        int at = 0;
        while (separator is null)
        {
            while (at < text.Length && IsSpace(text[at]))
            {
                at++;
            }

            if (at == text.Length)
            {
                return parts;
            }

            if (most >= 0 && parts.Count >= most)
            {
                parts.Add(Strip(text[at..], null, start: false, end: true));
                return parts;
            }

            int from = at;
            while (at < text.Length && !IsSpace(text[at]))
            {
                at++;
            }

            parts.Add(text[from..at]);
        }

        while ((most < 0 || parts.Count < most) && text.IndexOf(separator, at, StringComparison.Ordinal) is >= 0 and int next)
        {
            parts.Add(text[at..next]);
            at = next + separator.Length;
        }

        parts.Add(text[at..]);
        return parts;
    }

    /// <summary>Upper or lower case. Beyond ASCII Python's rules are others than .NET's, so that such letters are refused.</summary>
    public static string Case(string text, bool upper)
    {
        if (!Ascii.IsValid(text))
        {
            throw new JinjaException("upper or lower case of letters beyond ASCII");
        }

        return upper ? text.ToUpperInvariant() : text.ToLowerInvariant();
    }

    /// <summary>The first letter in upper case, the others in lower case; of the text or of each word, which a letter of <paramref name="starts"/> precedes.</summary>
    public static string Capitals(string text, Func<char, bool>? starts)
    {
        char[] letters = Case(text, upper: false).ToCharArray();
        for (int i = 0; i < letters.Length; i++)
        {
            letters[i] = i == 0 || starts?.Invoke(letters[i - 1]) == true ? char.ToUpperInvariant(letters[i]) : letters[i];
        }

        return new string(letters);
    }

    /// <summary>Compares by code points.</summary>
    public static int Compare(string left, string right)
    {
        for (int i = 0; i < Math.Min(left.Length, right.Length); i++)
        {
            if (left[i] != right[i])
            {
                // Halves of characters beyond U+FFFF lie below U+E000..U+FFFF, what they stand for lies above.
                return char.IsSurrogate(left[i]) != char.IsSurrogate(right[i]) ? (char.IsSurrogate(left[i]) ? 1 : -1) : left[i] - right[i];
            }
        }

        return left.Length - right.Length;
    }

    /// <summary>A date by Python's <c>strftime</c>, in English.</summary>
    public static string Date(DateTimeOffset date, string format)
    {
        StringBuilder text = new();
        for (int i = 0; i < format.Length; i++)
        {
            string? pattern = null;
            if (format[i] == '%')
            {
                char code = ++i < format.Length ? format[i] : '\0';
                int at = DateCodes.IndexOf(code, StringComparison.Ordinal);
                pattern = at >= 0 ? DatePatterns[at] : throw new JinjaException($"strftime_now with '%{code}'");
            }

            text.Append(pattern is null ? format[i].ToString() : date.ToString(pattern, CultureInfo.InvariantCulture));
        }

        return text.ToString();
    }

    /// <summary>Appends a string as Python's <c>json.dumps(..., ensure_ascii=False)</c> does.</summary>
    public static void Quote(StringBuilder json, string text)
    {
        json.Append('"');
        foreach (char letter in text)
        {
            json.Append(letter switch
            {
                '"' => "\\\"",
                '\\' => "\\\\",
                '\n' => "\\n",
                '\r' => "\\r",
                '\t' => "\\t",
                '\b' => "\\b",
                '\f' => "\\f",
                < ' ' => $"\\u{(int)letter:x4}",
                _ => letter.ToString(),
            });
        }

        json.Append('"');
    }
}
