using System.Text;
using System.Text.RegularExpressions;

namespace KvCacheGpu.Configuration;

/// <summary>The value that a variable's text in a .env file stands for.</summary>
internal static class EnvValue
{
    /// <summary>Reads a value.</summary>
    /// <param name="text">What stands behind "=", trimmed.</param>
    /// <param name="where">The place, for errors.</param>
    /// <param name="find">The value of a variable that is named; null where it is not set.</param>
    /// <param name="isForeign">True for another program's value, which is read as well as it can be: its form is not judged.</param>
    /// <exception cref="KvConfigurationException">E003: an open quote, text behind the closing one, an unknown escape, a variable that is not set.</exception>
    public static string Read(string text, string where, Func<string, string?> find, bool isForeign = false)
    {
        if (text is not ['"' or '\'', ..] && !(isForeign && text.StartsWith('`')))
        {
            return Expanded(WithoutRemark(text), where, find);
        }

        StringBuilder value = new();
        for (int i = 1; i < text.Length && (isForeign || text[i] != '\n'); i++)
        {
            if (text[i] == text[0])
            {
                string rest = text[(i + 1)..].TrimStart();
                return isForeign || rest.Length == 0 || rest.StartsWith('#')
                    ? value.ToString()
                    : throw new KvConfigurationException(where, "nothing after the closing quote", $"\"{rest}\"");
            }

            if (text[i] == '\\' && i + 1 < text.Length && (text[0] == '"' || (isForeign && text[i + 1] == text[0])))
            {
                value.Append(Unescaped(text[++i], where, isForeign));
            }
            else if (text[0] == '"' && Reference(text, i) is { } reference)
            {
                value.Append(ValueOf(reference, where, find));
                i += reference.Length - 1;
            }
            else
            {
                value.Append(text[i]);
            }
        }

        return isForeign ? text : throw new KvConfigurationException(where, "a closing quote", "the line's end");
    }

    /// <summary>True if a value names a variable, as <c>${NAME}</c> or <c>$NAME</c>, outside of single quotes.</summary>
    public static bool Names(string text, string variable)
    {
        string read = text.StartsWith('\'') ? string.Empty : text.StartsWith('"') ? text : WithoutRemark(text);
        return Regex.IsMatch(read, $@"\$(\{{{Regex.Escape(variable)}(:-|\}})|{Regex.Escape(variable)}(?![A-Za-z0-9_]))");
    }

    /// <summary>A text in double quotes, such that reading gives the text again.</summary>
    public static string Quoted(string text) => $"\"{string.Concat(text.Select(c => c switch
    {
        '"' or '\\' or '$' => $"\\{c}",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        _ => $"{c}",
    }))}\"";

    private static string WithoutRemark(string text)
    {
        int remark = Enumerable.Range(0, text.Length).FirstOrDefault(i => text[i] == '#' && (i == 0 || char.IsWhiteSpace(text[i - 1])), text.Length);
        return text[..remark].TrimEnd();
    }

    private static string Expanded(string text, string where, Func<string, string?> find)
    {
        if (!text.Contains("${", StringComparison.Ordinal))
        {
            return text;
        }

        StringBuilder value = new();
        for (int i = 0; i < text.Length; i++)
        {
            if (Reference(text, i) is { } reference)
            {
                value.Append(ValueOf(reference, where, find));
                i += reference.Length - 1;
            }
            else
            {
                value.Append(text[i]);
            }
        }

        return value.ToString();
    }

    // The "${...}" that begins there, as python-dotenv reads it; null where none does.
    private static string? Reference(string text, int at)
    {
        if (string.CompareOrdinal(text, at, "${", 0, 2) != 0 || text.IndexOf('}', at) is not (var end and > 0))
        {
            return null;
        }

        string inner = text[(at + 2)..end];
        int colon = inner.IndexOf(':', StringComparison.Ordinal);
        return inner.Length > 0 && colon != 0 && (colon < 0 || inner.AsSpan(colon).StartsWith(":-")) ? text[at..(end + 1)] : null;
    }

    private static string ValueOf(string reference, string where, Func<string, string?> find)
    {
        string inner = reference[2..^1];
        int colon = inner.IndexOf(":-", StringComparison.Ordinal);
        string name = colon < 0 ? inner : inner[..colon];
        return (find(name), colon) switch
        {
            ({ Length: > 0 } value, _) => value,
            (_, > 0) => inner[(colon + 2)..],
            ({ } empty, _) => empty,
            _ => throw new KvConfigurationException(where, $"the variable {name}, which the value names, set above it or in the environment", "neither"),
        };
    }

    private static char Unescaped(char letter, string where, bool isForeign) => letter switch
    {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        _ when letter is '"' or '\\' or '$' || isForeign => letter,
        _ => throw new KvConfigurationException(where, "\\n, \\r, \\t, \\\", \\\\ or \\$", $"\\{letter}"),
    };
}
