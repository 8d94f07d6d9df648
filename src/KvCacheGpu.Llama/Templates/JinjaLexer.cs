using System.Globalization;
using System.Text;

namespace KvCacheGpu.Llama;

/// <summary>
/// Cuts a template into tokens as Jinja 3.1 does with trim_blocks and lstrip_blocks on and keep_trailing_newline off, which is how chat templates are read.
/// </summary>
internal sealed class JinjaLexer
{
    private static readonly string[] Signs =
    [
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "*", "/", "~", "%", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";",
    ];

    private readonly string _source;
    private readonly List<JinjaToken> _tokens = [];
    private readonly Stack<char> _brackets = [];
    private int _at;
    private int _line = 1;

    private JinjaLexer(string source) => _source = source;

    /// <summary>The tokens of a template, the last of which is the end.</summary>
    /// <exception cref="JinjaException">It has what is no token of the supported part.</exception>
    public static IReadOnlyList<JinjaToken> Tokens(string template)
    {
        string source = template.Replace("\r\n", "\n", StringComparison.Ordinal).Replace('\r', '\n');
        JinjaLexer lexer = new(source.EndsWith('\n') ? source[..^1] : source);
        lexer.Run();
        return lexer._tokens;
    }

    private char Now => Peek(0);

    private char Peek(int ahead) => _at + ahead < _source.Length ? _source[_at + ahead] : '\0';

    private void Run()
    {
        while (Tag() is var (tag, open))
        {
            char sign = open + 2 < _source.Length && _source[open + 2] is '-' or '+' ? _source[open + 2] : ' ';
            Text(open, sign, strips: tag != '{');
            Move(open);
            int line = _line;
            Move(open + (sign == ' ' ? 2 : 3));
            if (tag == '#')
            {
                Comment(line);
                continue;
            }

            string close = tag == '{' ? "}}" : "%}";
            Add(JinjaTokenKind.Sign, tag == '{' ? "{{" : "{%", line);
            while (!Close(close, trims: tag == '%'))
            {
                Next(line);
            }
        }

        Text(_source.Length, ' ', strips: false);
        Move(_source.Length);
        Add(JinjaTokenKind.End, string.Empty, _line);
    }

    private void Add(JinjaTokenKind kind, string text, int line) => _tokens.Add(new JinjaToken(kind, text, line));

    private void Move(int to)
    {
        _line += _source.AsSpan(_at, to - _at).Count('\n');
        _at = to;
    }

    // The next "{{", "{%" or "{#": its second letter and its place.
    private (char Tag, int Open)? Tag()
    {
        for (int open = _source.IndexOf('{', _at); open >= 0 && open + 1 < _source.Length; open = _source.IndexOf('{', open + 1))
        {
            if (_source[open + 1] is '{' or '%' or '#')
            {
                return (_source[open + 1], open);
            }
        }

        return null;
    }

    // The text up to a tag. "-" drops all white space before the tag; a statement or comment alone drops that of its own line, unless it has "+".
    private void Text(int to, char sign, bool strips)
    {
        int end = to;
        if (sign == '-')
        {
            end = Spaces(_at, to);
        }
        else if (strips && sign != '+')
        {
            int newline = to > _at ? _source.LastIndexOf('\n', to - 1, to - _at) : -1;
            bool isLine = newline >= 0 || _at == 0 || _source[_at - 1] == '\n';
            int start = newline >= 0 ? newline + 1 : _at;
            end = isLine && Spaces(start, to) == start ? start : to;
        }

        if (end > _at)
        {
            Add(JinjaTokenKind.Text, _source[_at..end], _line);
        }
    }

    // Where the white space before a place begins.
    private int Spaces(int from, int to)
    {
        while (to > from && PythonText.IsSpace(_source[to - 1]))
        {
            to--;
        }

        return to;
    }

    private void Comment(int line)
    {
        int end = _source.IndexOf("#}", _at, StringComparison.Ordinal);
        if (end < 0)
        {
            throw new JinjaException("a comment without end", line);
        }

        // A sign that belongs to the beginning, as in "{#-#}", is not read twice.
        char sign = end > _at ? _source[end - 1] : ' ';
        Move(end + 2);
        After(sign, trims: true);
    }

    private bool Close(string close, bool trims)
    {
        while (PythonText.IsSpace(Now) && _at < _source.Length)
        {
            Move(_at + 1);
        }

        // Within brackets "}}" closes two of them.
        if (_brackets.Count > 0)
        {
            return false;
        }

        int signs = Now == '-' || (Now == '+' && trims) ? 1 : 0;
        if (string.CompareOrdinal(_source, _at + signs, close, 0, 2) != 0)
        {
            return false;
        }

        char sign = signs == 1 ? Now : ' ';
        Add(JinjaTokenKind.Sign, close, _line);
        Move(_at + signs + 2);
        After(sign, trims);
        return true;
    }

    // What a tag takes with it: "-" all white space, a statement or comment one line's end unless it has "+".
    private void After(char sign, bool trims)
    {
        int to = _at;
        if (sign == '-')
        {
            while (to < _source.Length && PythonText.IsSpace(_source[to]))
            {
                to++;
            }
        }
        else if (trims && sign != '+' && Now == '\n')
        {
            to++;
        }

        Move(to);
    }

    private void Next(int line)
    {
        if (_at >= _source.Length)
        {
            throw new JinjaException("a tag without end", line);
        }

        if (char.IsAsciiDigit(Now))
        {
            Number();
        }
        else if (char.IsAsciiLetter(Now) || Now == '_')
        {
            int end = _at;
            while (end < _source.Length && (char.IsAsciiLetterOrDigit(_source[end]) || _source[end] == '_'))
            {
                end++;
            }

            Add(JinjaTokenKind.Name, _source[_at..end], _line);
            Move(end);
        }
        else if (Now is '\'' or '"')
        {
            String(Now);
        }
        else
        {
            Sign();
        }
    }

    private void Number()
    {
        int end = _at;
        while (end < _source.Length && char.IsAsciiDigit(_source[end]))
        {
            end++;
        }

        string digits = _source[_at..end];
        bool isFloat = end + 1 < _source.Length && _source[end] == '.' && char.IsAsciiDigit(_source[end + 1]);
        bool isOther = end < _source.Length && (char.IsLetterOrDigit(_source[end]) || _source[end] == '_');
        if (isFloat || isOther || (digits[0] == '0' && digits.Length > 1) || !long.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out _))
        {
            throw new JinjaException(isFloat ? "a number with a fraction" : $"the number '{digits}{(isOther ? _source[end] : string.Empty)}...'", _line);
        }

        Add(JinjaTokenKind.Integer, digits, _line);
        Move(end);
    }

    private void Sign()
    {
        string? sign = Array.Find(Signs, s => string.CompareOrdinal(_source, _at, s, 0, s.Length) == 0);
        if (sign is null)
        {
            throw new JinjaException($"the letter U+{(int)Now:X4}", _line);
        }

        if (sign is "(" or "[" or "{")
        {
            _brackets.Push(sign[0]);
        }
        else if (sign is ")" or "]" or "}" && !(_brackets.TryPop(out char open) && (open, sign) is ('(', ")") or ('[', "]") or ('{', "}")))
        {
            throw new JinjaException($"'{sign}' without its beginning", _line);
        }

        Add(JinjaTokenKind.Sign, sign, _line);
        Move(_at + sign.Length);
    }

    private void String(char quote)
    {
        int line = _line;
        StringBuilder text = new();
        int at = _at + 1;
        for (; at < _source.Length && _source[at] != quote; at++)
        {
            if (_source[at] == '\\')
            {
                at = Escape(at + 1, text, line);
            }
            else
            {
                text.Append(_source[at]);
            }
        }

        if (at >= _source.Length)
        {
            throw new JinjaException("a string without end", line);
        }

        Add(JinjaTokenKind.String, text.ToString(), line);
        Move(at + 1);
    }

    // Python's escapes. Returns the place of the last letter that belongs to it.
    private int Escape(int at, StringBuilder text, int line)
    {
        char letter = at < _source.Length ? _source[at] : '\0';
        int simple = "\\'\"abfnrtv".IndexOf(letter, StringComparison.Ordinal);
        if (simple >= 0 && letter != '\0')
        {
            text.Append("\\'\"\a\b\f\n\r\t\v"[simple]);
            return at;
        }

        if (letter == '\n')
        {
            return at; // A line that goes on.
        }

        int digits = letter switch { 'x' => 2, 'u' => 4, 'U' => 8, _ => 0 };
        if (digits == 0 || at + digits >= _source.Length
            || !uint.TryParse(_source.AsSpan(at + 1, digits), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out uint code)
            || !Rune.TryCreate(code, out Rune rune))
        {
            throw new JinjaException($"the escape '\\{letter}'", line);
        }

        text.Append(rune.ToString());
        return at + digits;
    }
}
