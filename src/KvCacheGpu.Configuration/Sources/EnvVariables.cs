using System.Text;

namespace KvCacheGpu.Configuration;

/// <summary>A variable of a .env file.</summary>
internal readonly record struct EnvLine(string Name, string Value, int Line);

/// <summary>
/// Reads a .env file's variables of ours: <c>[export ]KV_CACHE_X=value</c>, bare, in single quotes (as it is) or in double quotes
/// (\n \r \t \" \\ \$); " #" begins a comment. Nothing is expanded. Lines of others are not judged.
/// </summary>
internal static class EnvVariables
{
    public const string Prefix = "KV_CACHE_";

    /// <exception cref="KvConfigurationException">E003: a line of ours without "=", with an open quote, or a variable twice.</exception>
    public static IReadOnlyList<EnvLine> Parse(SourceText source)
    {
        List<EnvLine> found = [];
        Dictionary<string, int> lines = [];
        string[] all = source.Text.Split('\n');
        for (int i = 0; i < all.Length; i++)
        {
            string line = Declaration(all[i]);
            if (!line.StartsWith(Prefix, StringComparison.Ordinal))
            {
                i = EndOfForeign(all, i, line);
                continue;
            }

            int equals = line.IndexOf('=', StringComparison.Ordinal);
            string name = (equals < 0 ? line.Split(' ', '\t')[0] : line[..equals]).TrimEnd();
            string where = source.At(i + 1, name);
            if (found.Count == ConfigNode.MostValues)
            {
                throw ConfigNode.TooMany(where);
            }

            if (equals < 0 || name.Any(char.IsWhiteSpace))
            {
                throw new KvConfigurationException(where, "NAME=value", $"\"{line}\"");
            }

            if (!lines.TryAdd(name, i + 1))
            {
                throw new KvConfigurationException(where, "each variable once", $"it again after line {lines[name]}");
            }

            found.Add(new EnvLine(name, Value(line[(equals + 1)..].Trim(), where), i + 1));
        }

        return found;
    }

    private static string Declaration(string line)
    {
        line = line.Trim();
        return line.StartsWith("export ", StringComparison.Ordinal) ? line["export ".Length..].TrimStart() : line;
    }

    // A key or certificate of another program may run over many lines, in quotes; none of them is a declaration of ours.
    private static int EndOfForeign(string[] lines, int first, string line)
    {
        int equals = line.IndexOf('=', StringComparison.Ordinal);
        string value = equals < 0 || line.StartsWith('#') ? string.Empty : line[(equals + 1)..].TrimStart();
        if (value is not ['"' or '\'', ..] || value[1..].Contains(value[0], StringComparison.Ordinal))
        {
            return first;
        }

        int last = Array.FindIndex(lines, first + 1, l => l.Contains(value[0], StringComparison.Ordinal));
        return last < 0 ? first : last;
    }

    private static string Value(string text, string where)
    {
        if (text is not ['"' or '\'', ..])
        {
            int comment = Enumerable.Range(0, text.Length).FirstOrDefault(i => text[i] == '#' && (i == 0 || char.IsWhiteSpace(text[i - 1])), text.Length);
            return text[..comment].TrimEnd();
        }

        StringBuilder value = new();
        for (int i = 1; i < text.Length; i++)
        {
            if (text[i] == text[0])
            {
                string rest = text[(i + 1)..].TrimStart();
                return rest.Length == 0 || rest.StartsWith('#')
                    ? value.ToString()
                    : throw new KvConfigurationException(where, "nothing after the closing quote", $"\"{rest}\"");
            }

            bool isEscape = text[0] == '"' && text[i] == '\\' && i + 1 < text.Length;
            value.Append(isEscape ? Unescaped(text[++i], where) : text[i]);
        }

        throw new KvConfigurationException(where, "a closing quote", "the line's end");
    }

    private static char Unescaped(char letter, string where) => letter switch
    {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        '"' or '\\' or '$' => letter,
        _ => throw new KvConfigurationException(where, "\\n, \\r, \\t, \\\", \\\\ or \\$", $"\\{letter}"),
    };
}
