namespace KvCacheGpu.Configuration;

/// <summary>What a value in a file is, which decides what may be read from it.</summary>
internal enum NodeKind
{
    Mapping,
    Sequence,

    /// <summary>Nothing: null, or an empty value.</summary>
    Null,

    /// <summary>A text in quotes: never a number or a switch.</summary>
    Text,

    /// <summary>A number, true or false of JSON: never a text.</summary>
    Literal,

    /// <summary>A plain scalar of YAML: whatever its key takes.</summary>
    Plain,

    /// <summary>A variable's text: whatever its key takes; switches also as 1, yes, on.</summary>
    Variable,
}

/// <summary>A value of a file with the line that it stands on; JSON and YAML alike.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Text">A scalar's text.</param>
/// <param name="Line">Its line, from 1.</param>
/// <param name="Members">Of a mapping its entries, of a sequence its items without names.</param>
internal sealed record ConfigNode(NodeKind Kind, string? Text, int Line, IReadOnlyList<ConfigMember> Members)
{
    /// <summary>Deeper files are refused: no configuration nests so far.</summary>
    public const int MostDepth = 32;

    /// <summary>More values are refused: a file of a megabyte would take a hundred of memory, and no configuration has so many.</summary>
    public const int MostValues = 10_000;

    /// <summary>Where it stands in a file's text.</summary>
    public TextPlace Place { get; init; }

    public static KvConfigurationException TooMany(string where) => new(where, $"at most {MostValues} values in a configuration", "more");

    public static ConfigNode Scalar(NodeKind kind, string? text, int line) => new(kind, text, line, []);
}

/// <summary>An entry of a mapping.</summary>
/// <param name="Name">Its key; empty in sequences.</param>
/// <param name="Line">The key's line, from 1.</param>
/// <param name="Node">Its value.</param>
/// <param name="NamePlace">Where the key stands in a file's text.</param>
internal sealed record ConfigMember(string Name, int Line, ConfigNode Node, TextPlace NamePlace = default);

/// <summary>Where a key or a value stands in a file's text, for edits. The last three are known of YAML alone.</summary>
/// <param name="Start">Place of its first character, from 0.</param>
/// <param name="End">Place behind its last character; for a block of YAML the place where the next token begins.</param>
/// <param name="Column">The first character's column, from 0: for a key, its block's indentation.</param>
/// <param name="LastLine">The last line that surely belongs to it, from 1.</param>
/// <param name="IsFlow">True if it is written in braces or brackets.</param>
internal readonly record struct TextPlace(int Start, int End, int Column = 0, int LastLine = 0, bool IsFlow = false);

/// <summary>Collects a mapping's entries; the same key twice is refused, since readers disagree on which one counts.</summary>
internal sealed class MemberList(SourceText source)
{
    private readonly Dictionary<string, int> _lines = new(StringComparer.OrdinalIgnoreCase);
    private readonly List<ConfigMember> _members = [];

    public IReadOnlyList<ConfigMember> Members => _members;

    public void Expect(string name, int line)
    {
        if (!_lines.TryAdd(name, line))
        {
            throw new KvConfigurationException(source.At(line, name), "each key once", $"it again after line {_lines[name]}");
        }
    }

    public void Add(string name, int line, ConfigNode node, TextPlace namePlace = default) => _members.Add(new ConfigMember(name, line, node, namePlace));
}
