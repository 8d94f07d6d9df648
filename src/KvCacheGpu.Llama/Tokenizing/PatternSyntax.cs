using System.Globalization;
using System.Text;

namespace KvCacheGpu.Llama;

/// <summary>
/// Reads a pattern in the part of the syntax that means the same in .NET and in Oniguruma, the engine of Hugging Face's tokenizers, and writes it for .NET:
/// letters, classes of letters and of general categories, groups, alternatives, quantifiers, looks ahead. Everything else is refused by
/// name, because syntax that the two read differently (<c>$</c>, <c>\w</c>, <c>[[:alpha:]]</c>, <c>&amp;&amp;</c>) would silently give other tokens.
/// </summary>
internal sealed class PatternSyntax
{
    private const int MaxDepth = 50;
    private const int MaxRepeats = 1000;
    private const int MaxLength = 10_000;

    // The most letters of the pattern with its counts written out: an engine of linear time takes memory for each.
    private const int MaxSize = 10_000;

    private static readonly HashSet<string> Categories =
    [
        "L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N", "Nd", "Nl", "No", "P", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po",
        "S", "Sm", "Sc", "Sk", "So", "Z", "Zs", "Zl", "Zp",
    ];

    private readonly string _file;
    private readonly string _source;
    private readonly StringBuilder _pattern = new();
    private readonly List<(char First, char Last)> _named = [];
    private int _at;
    private int _size;

    private PatternSyntax(string file, string source) => (_file, _source) = (file, source);

    /// <summary>The pattern in the syntax of .NET.</summary>
    public string Pattern => _pattern.ToString();

    /// <summary>True if the pattern looks ahead, which no engine of linear time does.</summary>
    public bool LooksAhead { get; private set; }

    /// <summary>Reads a pattern.</summary>
    /// <param name="file">The name of the file in errors.</param>
    /// <param name="source">The pattern.</param>
    public static PatternSyntax Read(string file, string source)
    {
        PatternSyntax syntax = new(file, source);
        if (source.Length is 0 or > MaxLength)
        {
            LlamaFormatException.ThrowUnsupported(file, "pre_tokenizer", $"a pattern of 1..{MaxLength} characters", $"one of {source.Length}");
        }

        syntax.Alternatives(0, ignoresCase: false);
        if (syntax._at < source.Length)
        {
            LlamaFormatException.ThrowCorrupt(file, "pre_tokenizer", "a regular expression", $"a \")\" without its \"(\" in {source}");
        }

        return syntax;
    }

    /// <summary>True if the pattern names a letter by a literal or a range, and not only by a category.</summary>
    public bool Names(char letter) => _named.Exists(r => letter >= r.First && letter <= r.Last);

    private char Next => _at < _source.Length ? _source[_at] : '\0';

    private void Alternatives(int depth, bool ignoresCase)
    {
        if (depth > MaxDepth)
        {
            Refuse($"more than {MaxDepth} groups in each other");
        }

        while (_at < _source.Length && Next != ')')
        {
            if (Next == '|')
            {
                Copy(1);
                continue;
            }

            int before = _size;
            bool isLook = Next == '(' ? Group(depth, ignoresCase) : Atom(ignoresCase);
            int times = Quantifier(isLook);
            _size = before + (int)Math.Min((long)(_size - before) * times, int.MaxValue - before);
            RefuseIf(_size > MaxSize, "repeats of repeats");
        }
    }

    // Returns true for a look ahead.
    private bool Group(int depth, bool ignoresCase)
    {
        int start = _at;
        string[] kinds = ["(?:", "(?i:", "(?=", "(?!"];
        string kind = Array.Find(kinds, k => string.CompareOrdinal(_source, start, k, 0, k.Length) == 0) ?? "(";
        _at += kind.Length;
        if (kind == "(" && Next == '?')
        {
            Refuse($"{_source.AsSpan(start, Math.Min(4, _source.Length - start))}");
        }

        bool isLook = kind is "(?=" or "(?!";
        LooksAhead |= isLook;
        _pattern.Append(isLook ? kind : "(?:");
        Alternatives(depth + 1, ignoresCase || kind == "(?i:");
        if (Next != ')')
        {
            LlamaFormatException.ThrowCorrupt(_file, "pre_tokenizer", "a regular expression", $"a \"(\" without its \")\" in {_source}");
        }

        Copy(1);
        return isLook;
    }

    private bool Atom(bool ignoresCase)
    {
        _size++;
        switch (Next)
        {
            case '[':
                RefuseIf(ignoresCase, "a class within (?i:");
                Class();
                break;
            case '.':
                RefuseIf(ignoresCase, "a dot within (?i:");
                Copy(1);
                break;
            case '^' or '$' or '*' or '+' or '?' or '{' or '}' or ']':
                Refuse($"{Next}");
                break;
            case '\\' when Escape(isInClass: false) is var letter:
                if (letter is { } one)
                {
                    Letter(one, ignoresCase);
                }
                else
                {
                    RefuseIf(ignoresCase, "a category within (?i:");
                }

                break;
            default:
                Letter(_source[_at++], ignoresCase);
                break;
        }

        return false;
    }

    // Both cases are written out, because ignoring case, .NET also matches the Kelvin sign as K, and Oniguruma the long s as s.
    private void Letter(char letter, bool ignoresCase)
    {
        Name(letter, letter);
        if (!ignoresCase || !char.IsAsciiLetter(letter))
        {
            RefuseIf(ignoresCase && letter > '\x7f', $"{letter} within (?i:");
            Write(letter);
            return;
        }

        (char lower, char upper) = (char.ToLowerInvariant(letter), char.ToUpperInvariant(letter));
        string other = lower switch { 's' => "\u017f", 'k' => "\u212a", _ => string.Empty };
        Name(lower, lower);
        Name(upper, upper);
        foreach (char c in other)
        {
            Name(c, c);
        }

        _pattern.Append('[').Append(lower).Append(upper).Append(other).Append(']');
    }

    private void Class()
    {
        Copy(1);
        if (Next == '^')
        {
            Copy(1);
        }

        RefuseIf(Next == ']', "[]");
        while (Next != ']')
        {
            if (_at >= _source.Length)
            {
                LlamaFormatException.ThrowCorrupt(_file, "pre_tokenizer", "a regular expression", $"a \"[\" without its \"]\" in {_source}");
            }

            RefuseIf(Next == '[', "[ within a class");
            RefuseIf(Next == '&' && _at + 1 < _source.Length && _source[_at + 1] == '&', "&&");
            char? first = Next == '\\' ? Escape(isInClass: true) : _source[_at++];
            bool isRange = Next == '-' && _at + 1 < _source.Length && _source[_at + 1] != ']';
            if (first is not { } from)
            {
                RefuseIf(isRange, "a range from a category");
                continue;
            }

            char last = from;
            if (isRange)
            {
                _at++;
                RefuseIf(Next is '[' or '-', $"-{Next} within a class");
                last = (Next == '\\' ? Escape(isInClass: true) : _source[_at++]) ?? Refuse("a range to a category");
                RefuseIf(last < from, $"a range from {from} to {last}");
            }

            Name(from, last);
            Write(from);
            if (isRange)
            {
                _pattern.Append('-');
                Write(last);
            }
        }

        Copy(1);
    }

    // The letter that is escaped; null for a class of letters, which is copied.
    private char? Escape(bool isInClass)
    {
        int start = _at;
        char kind = _at + 1 < _source.Length ? _source[_at + 1] : '\0';
        switch (kind)
        {
            case 's' or 'S' or 'd' or 'D':
                Copy(2);
                return null;
            case 'p' or 'P':
                int end = _source.IndexOf('}', start);
                string name = end > start + 3 && _source[start + 2] == '{' ? _source[(start + 3)..end] : "none";
                RefuseIf(!Categories.Contains(name), $"\\{kind} of {name}");
                Copy(end + 1 - start);
                return null;
            case 'r' or 'n' or 't' or 'f' or 'v':
                _at += 2;
                return kind switch { 'r' => '\r', 'n' => '\n', 't' => '\t', 'f' => '\f', _ => '\v' };
            case 'u' when _at + 6 <= _source.Length
                && ushort.TryParse(_source.AsSpan(_at + 2, 4), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ushort code):
                _at += 6;
                return (char)code;
            case > ' ' and < '\x7f' when !char.IsAsciiLetterOrDigit(kind):
                _at += 2;
                return kind;
            default:
                return Refuse($"\\{(kind == '\0' ? " at the end" : kind)}{(isInClass ? " within a class" : string.Empty)}");
        }
    }

    // Returns the number of times that the part before it is written out.
    private int Quantifier(bool isLook)
    {
        int start = _at;
        int times = 1;
        if (Next is '?' or '*' or '+')
        {
            Copy(1);
        }
        else if (Next == '{')
        {
            times = Repeats();
        }

        if (_at == start)
        {
            return times;
        }

        RefuseIf(isLook, "a look ahead that is repeated");
        if (Next == '?' && _source[start] != '{')
        {
            Copy(1);
        }

        // A second quantifier makes the first one possessive in Oniguruma, and is an error in .NET.
        if (Next is '?' or '*' or '+' or '{')
        {
            Refuse(_source[start..(_at + 1)]);
        }

        return times;
    }

    private int Repeats()
    {
        int end = _source.IndexOf('}', _at);
        string[] counts = end < 0 ? [] : _source[(_at + 1)..end].Split(',');
        int most = 0;
        bool isRead = counts.Length is 1 or 2 && IsCount(counts[0], out most) && (counts.Length == 1 || counts[1].Length == 0 || IsCount(counts[1], out most));
        RefuseIf(!isRead, "{ without counts");
        Copy(end + 1 - _at);
        return most;
    }

    private static bool IsCount(string text, out int count) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out count) && count <= MaxRepeats;

    private void Name(char first, char last)
    {
        // A range over the surrogates would be one of code points, but a letter beyond U+FFFF is shown to the engine as another one, which is not in the range.
        RefuseIf(char.IsSurrogate(first) || char.IsSurrogate(last), "a letter beyond U+FFFF");
        _named.Add((first, last));
    }

    private void Write(char letter) => _pattern.Append(CultureInfo.InvariantCulture, $"\\u{(int)letter:x4}");

    private void Copy(int count)
    {
        _pattern.Append(_source, _at, count);
        _at += count;
    }

    private void RefuseIf(bool isMet, string what)
    {
        if (isMet)
        {
            Refuse(what);
        }
    }

    private char Refuse(string what)
    {
        LlamaFormatException.ThrowUnsupported(_file, "pre_tokenizer", "a pattern that both engines read alike", $"{what} in {_source}");
        return '\0';
    }
}
