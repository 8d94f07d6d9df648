using System.Text;
using System.Text.Json;

namespace KvCacheGpu.Configuration;

/// <summary>A JSON configuration; comments and trailing commas are taken as they are.</summary>
internal sealed class JsonText : IConfigText
{
    private const string Section = "kv_cache";

    private readonly string _path;
    private readonly IReadOnlyList<ConfigMember> _root;
    private readonly ConfigMember? _section;

    private JsonText(string path, string text)
    {
        (_path, Text) = (path, text);
        ConfigNode root = JsonNodes.Parse(new SourceText(path, text));
        _root = root.Kind == NodeKind.Mapping ? root.Members : throw new KvConfigurationException($"{path}:1", "a JSON object", "something else");
        _section = Member(_root, Section);
        if (_section is { Node.Kind: not NodeKind.Mapping })
        {
            throw new KvConfigurationException($"{path}:{_section.Node.Line}: {Section}", "an object", "another value");
        }
    }

    public string Text { get; }

    public bool IsVariables => false;

    public bool HasSection => _section is not null;

    public string? DeclaredVersion => FindIn(_root, "schema_version") ?? FindIn(_root, "version") ?? Find("schema_version") ?? Find("version");

    public static JsonText Parse(string path, string text) => new(path, text);

    public string? Find(string key) => FindIn(_section?.Node.Members ?? [], key);

    public OldSetting? FindOld(string key) =>
        Member(_root, key) is { } old ? new OldSetting(Value(old), old.Line) : null;

    public IConfigText ReplaceOld(IReadOnlyList<Setting> settings)
    {
        ConfigMember[] old = [.. _root.Where(member => member.Name is "kv_cache_size" or "kv_cache_strategy")];
        if (HasSection)
        {
            // Its own block is there: old keys go, and what it lacks is added to it.
            return (JsonText)new JsonText(_path, Without(Text, old)).Add(settings);
        }

        string without = Without(Text, old[1..]);
        return new JsonText(_path, without[..old[0].NamePlace.Start] + Block(old[0], settings) + without[old[0].Node.Place.End..]);
    }

    public IConfigText Add(IReadOnlyList<Setting> settings)
    {
        if (settings.Count == 0)
        {
            return this;
        }

        string newLine = TextFile.NewLineOf(Text);
        ConfigMember section = _section!;
        TextPlace braces = section.Node.Place;
        if (section.Node.Members is not [.., { } last])
        {
            string inner = Indent(section) is { } outer ? newLine + outer + Unit() : " ";
            string list = string.Join("," + inner, settings.Select(Written));
            string close = Indent(section) is { } indent ? newLine + indent : " ";
            return new JsonText(_path, Text[..(braces.Start + 1)] + inner + list + close + Text[(braces.End - 1)..].TrimStart());
        }

        bool isSpread = Indent(last) is not null;
        string separator = isSpread ? newLine + Indent(last) : " ";
        string added = string.Concat(settings.Select((setting, i) => (i == 0 ? string.Empty : ",") + separator + Written(setting)));
        // A remark behind the last value stays on its line, the comma before it.
        int end = last.Node.Place.End, comma = CommaAfter(Text, end);
        int from = comma >= 0 ? comma + 1 : end;
        int place = isSpread ? EndOfRemarks(Text, from) : from;
        return new JsonText(
            _path, Text[..end] + (comma >= 0 ? string.Empty : ",") + Text[end..place] + added + (comma >= 0 ? "," : string.Empty) + Text[place..]);
    }

    private string Block(ConfigMember place, IReadOnlyList<Setting> settings)
    {
        if (Indent(place) is not { } indent)
        {
            return $"\"{Section}\": {{ {string.Join(", ", settings.Select(Written))} }}";
        }

        string newLine = TextFile.NewLineOf(Text), inner = newLine + indent + Unit();
        return $"\"{Section}\": {{{inner}{string.Join("," + inner, settings.Select(Written))}{newLine}{indent}}}";
    }

    private string Unit() => _root.Select(member => Indent(member)).FirstOrDefault(indent => indent is { Length: > 0 }) ?? "  ";

    private static string Written(Setting setting) =>
        $"\"{setting.Key}\": {(setting.IsText ? $"\"{JsonEncodedText.Encode(setting.Value)}\"" : setting.Value)}";

    private static ConfigMember? Member(IReadOnlyList<ConfigMember> members, string key) => members.FirstOrDefault(member => member.Name == key);

    private string? FindIn(IReadOnlyList<ConfigMember> members, string key) => Member(members, key) is { } member ? Value(member) : null;

    // A string's without quotes, anything else as it is written.
    private string Value(ConfigMember member) => member.Node is { Kind: NodeKind.Text, Text: { } text } ? text : Text[member.Node.Place.Start..member.Node.Place.End];

    // Later ones first, so that the places of earlier ones hold.
    private static string Without(string text, IEnumerable<ConfigMember> members)
    {
        var result = new StringBuilder(text);
        foreach (ConfigMember member in members.Reverse())
        {
            string now = result.ToString();
            int start = member.NamePlace.Start, end = member.Node.Place.End, after = CommaAfter(now, end);
            end = after >= 0 ? after + 1 : end;
            if (after < 0 && CommaBefore(now, start) is var before and >= 0)
            {
                result.Remove(before, 1);
                (start, end, now) = (start - 1, end - 1, result.ToString());
            }

            // A line that held nothing else goes whole.
            int line = now.LastIndexOf('\n', Math.Max(0, start - 1)) + 1, next = now.IndexOf('\n', end);
            bool isAlone = string.IsNullOrWhiteSpace(now[line..start]) && next >= 0 && string.IsNullOrWhiteSpace(now[end..next]);
            _ = isAlone ? result.Remove(line, next + 1 - line) : result.Remove(start, end - start);
        }

        return result.ToString();
    }

    // The white space before a name, if nothing else stands before it on its line; else null.
    private string? Indent(ConfigMember member)
    {
        int start = member.NamePlace.Start, line = Text.LastIndexOf('\n', Math.Max(0, start - 1)) + 1;
        return line > 0 && string.IsNullOrWhiteSpace(Text[line..start]) ? Text[line..start] : null;
    }

    // The place of the comma behind a value, also after remarks; negative if there is none.
    private static int CommaAfter(string text, int place)
    {
        int at = SkipRemarks(text, place);
        return at < text.Length && text[at] == ',' ? at : -1;
    }

    // The place of the comma before a name; negative if there is none.
    private static int CommaBefore(string text, int name)
    {
        // Read forwards from every comma: backwards, a remark cannot be told from what it remarks on.
        for (int at = name - 1; at >= 0; at--)
        {
            if (text[at] == ',' && SkipRemarks(text, at + 1) == name)
            {
                return at;
            }
        }

        return -1;
    }

    // The end of the line, if only remarks follow on it from here; else here.
    private static int EndOfRemarks(string text, int place)
    {
        int end = text.IndexOf('\n', place);
        end = end < 0 ? text.Length : end > 0 && text[end - 1] == '\r' ? end - 1 : end;
        return SkipRemarks(text, place) is var at && at >= end && text[place..end].Contains('/', StringComparison.Ordinal) ? end : place;
    }

    private static int SkipRemarks(string text, int at)
    {
        while (at < text.Length)
        {
            if (char.IsWhiteSpace(text[at]))
            {
                at++;
            }
            else if (string.CompareOrdinal(text, at, "//", 0, 2) == 0)
            {
                at = text.IndexOf('\n', at) is var end and >= 0 ? end + 1 : text.Length;
            }
            else if (string.CompareOrdinal(text, at, "/*", 0, 2) == 0)
            {
                at = text.IndexOf("*/", at + 2, StringComparison.Ordinal) is var end and >= 0 ? end + 2 : text.Length;
            }
            else
            {
                break;
            }
        }

        return at;
    }
}
