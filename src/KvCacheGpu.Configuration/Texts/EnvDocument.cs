using System.Text.RegularExpressions;

namespace KvCacheGpu.Configuration;

/// <summary>A piece of a .env file: a declaration with its whole value, or one line of anything else.</summary>
/// <param name="Text">The piece as it stands, line endings included.</param>
/// <param name="Line">Its first line, from 1.</param>
/// <param name="Name">The variable; null where the piece is neither a declaration nor a line that begins with a name of ours.</param>
/// <param name="NameAt">Where the name begins in the text.</param>
/// <param name="Value">What stands behind "=", trimmed, with its quotes and a remark; null where there is no "=".</param>
internal sealed record EnvPiece(string Text, int Line, string? Name, int NameAt, string? Value)
{
    /// <summary>True if the line concerns this library.</summary>
    public bool IsOurs => Name is not null && Name.StartsWith(EnvVariables.Prefix, StringComparison.Ordinal);
}

/// <summary>
/// Cuts a .env file into pieces that joined are the file again, for reading and for editing alike. Lines of other programs are not judged: values over several
/// lines in ', " or `, "NAME: value", names alone, and anything else are kept. As python-dotenv and Docker Compose read it, a quote behind a backslash does not
/// close a value, and a value whose quote is never closed ends with its line.
/// </summary>
internal static partial class EnvDocument
{
    /// <exception cref="KvConfigurationException">The text holds a NUL, or more variables of ours than a configuration may (E003).</exception>
    public static IReadOnlyList<EnvPiece> Parse(SourceText source)
    {
        string text = source.Text;
        if (text.IndexOf('\0', StringComparison.Ordinal) is var zero and >= 0)
        {
            throw new KvConfigurationException(source.At(TextFile.LineOf(text, zero)), "text", "a NUL");
        }

        List<EnvPiece> pieces = [];
        int line = 1, ours = 0;
        for (int at = 0; at < text.Length;)
        {
            int end = EndOfLine(text, at);
            EnvPiece piece = PieceOf(text, at, end, line);
            if (piece.IsOurs && ++ours > ConfigNode.MostValues)
            {
                throw ConfigNode.TooMany(source.At(line, piece.Name));
            }

            pieces.Add(piece);
            at += piece.Text.Length;
            line += piece.Text.AsSpan().Count('\n');
        }

        return pieces;
    }

    private static EnvPiece PieceOf(string text, int at, int endOfLine, int line)
    {
        Match match = Declaration().Match(text[at..endOfLine]);
        Group name = match.Groups["name"], sign = match.Groups["sign"];
        bool isOurs = match.Success && name.ValueSpan.StartsWith(EnvVariables.Prefix, StringComparison.Ordinal);
        if (!sign.Success || (isOurs && sign.ValueSpan is not "="))
        {
            return new EnvPiece(text[at..endOfLine], line, isOurs ? name.Value : null, isOurs ? name.Index : 0, null);
        }

        int value = at + sign.Index + sign.Length, end = EndOfValue(text, value, endOfLine);
        return new EnvPiece(text[at..end], line, name.Value, name.Index, text[value..end].Trim());
    }

    private static int EndOfLine(string text, int at) => text.IndexOf('\n', at) is var end and >= 0 ? end + 1 : text.Length;

    private static int EndOfValue(string text, int value, int endOfLine)
    {
        while (value < endOfLine && char.IsWhiteSpace(text[value]))
        {
            value++;
        }

        if (value == endOfLine || text[value] is not ('"' or '\'' or '`'))
        {
            return endOfLine;
        }

        for (int i = value + 1; i < text.Length; i++)
        {
            if (text[i] == text[value])
            {
                return EndOfLine(text, i);
            }

            i += text[i] == '\\' ? 1 : 0;
        }

        return endOfLine;
    }

    [GeneratedRegex(@"^[\uFEFF\s]*(?:export\s+)?(?<name>[\w.-]+)\s*(?<sign>=|:(?=\s))?", RegexOptions.ExplicitCapture)]
    private static partial Regex Declaration();
}
