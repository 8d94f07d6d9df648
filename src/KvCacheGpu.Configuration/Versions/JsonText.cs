using System.Text;
using System.Text.Json;

namespace KvCacheGpu.Configuration;

/// <summary>A JSON configuration; comments and trailing commas are taken as they are.</summary>
internal sealed class JsonText : IConfigText
{
    private const string Section = "kv_cache";

    private readonly string _path;
    private readonly List<JsonMember> _root;
    private readonly JsonMember? _section;

    private JsonText(string path, string text)
    {
        (_path, Text) = (path, text);
        _root = JsonMember.Read(path, text);
        _section = _root.Find(member => member.Name == Section);
        if (_section is { Members: null })
        {
            throw new KvConfigurationException($"{path}:{TextFile.LineOf(text, _section.ValueStart)}: {Section}", "an object", "another value");
        }
    }

    public string Text { get; }

    public bool IsVariables => false;

    public bool HasSection => _section is not null;

    public string? DeclaredVersion => FindIn(_root, "schema_version") ?? FindIn(_root, "version") ?? Find("schema_version") ?? Find("version");

    public static JsonText Parse(string path, string text) => new(path, text);

    public string? Find(string key) => FindIn(_section?.Members ?? [], key);

    public OldSetting? FindOld(string key) =>
        _root.Find(member => member.Name == key) is { } old ? new OldSetting(old.Value, TextFile.LineOf(Text, old.NameStart)) : null;

    public IConfigText ReplaceOld(IReadOnlyList<Setting> settings)
    {
        JsonMember[] old = [.. _root.Where(member => member.Name is "kv_cache_size" or "kv_cache_strategy")];
        if (HasSection)
        {
            // Its own block is there: old keys go, and what it lacks is added to it.
            return (JsonText)new JsonText(_path, Without(Text, old)).Add(settings);
        }

        string without = Without(Text, old[1..]);
        return new JsonText(_path, without[..old[0].NameStart] + Block(old[0], settings) + without[old[0].ValueEnd..]);
    }

    public IConfigText Add(IReadOnlyList<Setting> settings)
    {
        if (settings.Count == 0)
        {
            return this;
        }

        string newLine = TextFile.NewLineOf(Text);
        JsonMember section = _section!;
        if (section.Members is not [.., { } last])
        {
            string inner = section.Indent(Text) is { } outer ? newLine + outer + Unit() : " ";
            string list = string.Join("," + inner, settings.Select(Member));
            string close = section.Indent(Text) is { } indent ? newLine + indent : " ";
            return new JsonText(_path, Text[..(section.ValueStart + 1)] + inner + list + close + Text[(section.ValueEnd - 1)..].TrimStart());
        }

        bool isSpread = last.Indent(Text) is not null;
        string separator = isSpread ? newLine + last.Indent(Text) : " ";
        string added = string.Concat(settings.Select((setting, i) => (i == 0 ? string.Empty : ",") + separator + Member(setting)));
        // A remark behind the last value stays on its line, the comma before it.
        int comma = JsonMember.CommaAfter(Text, last.ValueEnd);
        int from = comma >= 0 ? comma + 1 : last.ValueEnd;
        int place = isSpread ? JsonMember.EndOfRemarks(Text, from) : from;
        return new JsonText(
            _path, Text[..last.ValueEnd] + (comma >= 0 ? string.Empty : ",") + Text[last.ValueEnd..place] + added + (comma >= 0 ? "," : string.Empty) + Text[place..]);
    }

    private string Block(JsonMember place, IReadOnlyList<Setting> settings)
    {
        if (place.Indent(Text) is not { } indent)
        {
            return $"\"{Section}\": {{ {string.Join(", ", settings.Select(Member))} }}";
        }

        string newLine = TextFile.NewLineOf(Text), inner = newLine + indent + Unit();
        return $"\"{Section}\": {{{inner}{string.Join("," + inner, settings.Select(Member))}{newLine}{indent}}}";
    }

    private string Unit() => _root.Select(member => member.Indent(Text)).FirstOrDefault(indent => indent is { Length: > 0 }) ?? "  ";

    private static string Member(Setting setting) =>
        $"\"{setting.Key}\": {(setting.IsText ? $"\"{JsonEncodedText.Encode(setting.Value)}\"" : setting.Value)}";

    private static string? FindIn(List<JsonMember> members, string key) => members.Find(member => member.Name == key)?.Value;

    // Later ones first, so that the places of earlier ones hold.
    private static string Without(string text, IEnumerable<JsonMember> members)
    {
        var result = new StringBuilder(text);
        foreach (JsonMember member in members.Reverse())
        {
            string now = result.ToString();
            int after = JsonMember.CommaAfter(now, member.ValueEnd);
            int start = member.NameStart, end = after >= 0 ? after + 1 : member.ValueEnd;
            if (after < 0 && JsonMember.CommaBefore(now, member.NameStart) is var before and >= 0)
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
}
