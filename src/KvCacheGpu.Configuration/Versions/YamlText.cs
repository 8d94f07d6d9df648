namespace KvCacheGpu.Configuration;

/// <summary>A YAML configuration: block style at the root; the <c>kv_cache</c> block may be written in braces.</summary>
internal sealed class YamlText : IConfigText
{
    private const string Section = "kv_cache";

    private readonly string _path;
    private readonly string _mark;
    private readonly string _body;
    private readonly ConfigNode _root;
    private readonly ConfigMember? _section;

    private YamlText(string path, string text)
    {
        // The parser takes no byte order mark within a text.
        _mark = text.StartsWith('\uFEFF') ? "\uFEFF" : string.Empty;
        (_path, _body) = (path, text[_mark.Length..]);
        var source = new SourceText(path, _body);
        _root = YamlNodes.Parse(source);
        if (_root.Kind != NodeKind.Mapping ? !IsNothing(_root) : _root.Place.IsFlow)
        {
            throw new KvConfigurationException(source.At(_root.Line), "keys in block style, key: value", "another form");
        }

        ConfigMember? section = MemberOf(_root, Section);
        if (section is { Node.Kind: not (NodeKind.Mapping or NodeKind.Null) })
        {
            throw new KvConfigurationException(source.At(section.Line, Section), "keys beneath it", "another value");
        }

        _section = section?.Node.Kind == NodeKind.Mapping ? section : null;
    }

    public string Text => _mark + _body;

    public bool IsVariables => false;

    public bool HasSection => _section is not null;

    public string? DeclaredVersion => FindIn(_root, "schema_version") ?? FindIn(_root, "version") ?? Find("schema_version") ?? Find("version");

    public static YamlText Parse(string path, string text) => new(path, text);

    public string? Find(string key) => _section is null ? null : FindIn(_section.Node, key);

    public OldSetting? FindOld(string key) =>
        MemberOf(_root, key) is { } old ? new OldSetting(ValueOf(old.Node) ?? string.Empty, old.Line) : null;

    public IConfigText ReplaceOld(IReadOnlyList<Setting> settings)
    {
        ConfigMember[] old = [.. _root.Members.Where(member => member.Name is "kv_cache_size" or "kv_cache_strategy")];
        bool empty = MemberOf(_root, Section) is not null && !HasSection;
        if (empty || Array.Exists(old, member => member.Node.Place.LastLine != member.Line || member.Node.Kind == NodeKind.Mapping))
        {
            throw new KvConfigurationException($"{_path}:{old[0].Line}: {old[0].Name}", "version 1's keys each on a line of its own, and no empty kv_cache", "another form");
        }

        List<string> lines = Lines();
        string newLine = TextFile.NewLineOf(_body);
        List<string> block = [.. HasSection ? [] : settings.Select(setting => "  " + LineOf(setting, old))];
        foreach (ConfigMember member in old.OrderByDescending(member => member.Line))
        {
            bool isFirst = !HasSection && member == old.MinBy(one => one.Line);
            string line = lines[member.Line - 1];
            string[] rest = isFirst ? [$"{Section}:", .. block] : HasSection && RemarkOf(member) is { } remark ? [remark] : [];
            string ending = line.EndsWith('\n') ? newLine : string.Empty;
            lines.RemoveAt(member.Line - 1);
            lines.InsertRange(member.Line - 1, rest.Select((one, i) => one + (i == rest.Length - 1 ? ending : newLine)));
        }

        YamlText result = Checked(string.Concat(lines), [.. old.Select(member => member.Name)], HasSection ? [] : settings);
        return HasSection ? result.Add(settings) : result;
    }

    public IConfigText Add(IReadOnlyList<Setting> settings)
    {
        if (settings.Count == 0)
        {
            return this;
        }

        ConfigNode section = _section!.Node;
        if (section.Place.IsFlow)
        {
            string list = string.Join(", ", settings.Select(setting => LineOf(setting, [])));
            int place = section.Members is [.., { } tail] ? tail.Node.Place.End : section.Place.Start + 1;
            return Checked(_body[..place] + (section.Members.Count > 0 ? ", " : string.Empty) + list + _body[place..], [], settings);
        }

        List<string> lines = Lines();
        ConfigMember last = section.Members[^1];
        int end = Math.Max(last.Line, last.Node.Place.LastLine), column = last.NamePlace.Column;
        for (int i = end; i < lines.Count && (string.IsNullOrWhiteSpace(lines[i]) || IndentOf(lines[i]) > column || IsOwnRemark(lines[i], column)); i++)
        {
            end = string.IsNullOrWhiteSpace(lines[i]) ? end : i + 1;
        }

        string indent = new(' ', column);
        TextFile.InsertAfter(lines, end - 1, settings.Select(setting => indent + LineOf(setting, [])), TextFile.NewLineOf(_body));
        return Checked(string.Concat(lines), [], settings);
    }

    // YAML ends lines also where nothing else does: there its count of them is another.
    private List<string> Lines() => _body.AsSpan().ContainsAny('\u0085', '\u2028', '\u2029') || _body.Replace("\r\n", "\n", StringComparison.Ordinal).Contains('\r', StringComparison.Ordinal)
        ? throw ByHand()
        : TextFile.Lines(_body);

    private KvConfigurationException ByHand() => new(_path, "a form of YAML that can be edited line by line", "one to be migrated by hand");

    // A value of version 1 goes over as it is written, quotes and remark with it.
    private string LineOf(Setting setting, ConfigMember[] old)
    {
        string name = setting.Key == "max_tokens" ? "kv_cache_size" : setting.Key == "cache_strategy" ? "kv_cache_strategy" : string.Empty;
        return Array.Find(old, member => member.Name == name) is { } member
            ? setting.Key + _body[member.NamePlace.End..EndOfLine(member.NamePlace.End)]
            : $"{setting.Key}: {setting.Value}";
    }

    private string? RemarkOf(ConfigMember member)
    {
        int end = member.Node.Place.End;
        string rest = _body[end..EndOfLine(end)].Trim();
        return rest.StartsWith('#') ? rest : null;
    }

    private int EndOfLine(int place)
    {
        int end = _body.IndexOf('\n', place);
        end = end < 0 ? _body.Length : end;
        return end > place && _body[end - 1] == '\r' ? end - 1 : end;
    }

    private static bool IsOwnRemark(string line, int column) => line.TrimStart().StartsWith('#') && IndentOf(line) >= column;

    private static int IndentOf(string line) => line.Length - line.TrimStart(' ').Length;

    private static bool IsNothing(ConfigNode node) => node.Kind == NodeKind.Null && node.Place.Start == node.Place.End;

    private static ConfigMember? MemberOf(ConfigNode node, string key) => node.Members.FirstOrDefault(member => member.Name == key);

    private string? FindIn(ConfigNode node, string key) => MemberOf(node, key) is { } member ? ValueOf(member.Node) : null;

    // As written; a sequence is there, but is no value.
    private string? ValueOf(ConfigNode node) => node.Kind switch
    {
        NodeKind.Null => _body[node.Place.Start..node.Place.End],
        NodeKind.Sequence => string.Empty,
        _ => node.Text,
    };

    // True if each scalar is where it was, which an edit must not change.
    private static bool IsKept(ConfigNode before, ConfigNode? after)
    {
        if (before.Members.Count == 0)
        {
            return before.Kind == NodeKind.Mapping || (after is { Members.Count: 0 } && after.Kind != NodeKind.Mapping && after.Text == before.Text);
        }

        if (before.Kind == NodeKind.Sequence)
        {
            return after?.Kind == NodeKind.Sequence && before.Members.Index().All(one => one.Index < after.Members.Count && IsKept(one.Item.Node, after.Members[one.Index].Node));
        }

        Dictionary<string, ConfigNode> members = after?.Kind == NodeKind.Mapping ? after.Members.ToDictionary(member => member.Name, member => member.Node, StringComparer.Ordinal) : [];
        return before.Members.All(member => IsKept(member.Node, members.GetValueOrDefault(member.Name)));
    }

    // YAML has more forms than an edit by lines can know: what is read afterwards decides.
    private YamlText Checked(string text, string[] gone, IReadOnlyList<Setting> settings)
    {
        var edited = new YamlText(_path, _mark + text);
        bool isWhole = IsKept(_root with { Members = [.. _root.Members.Where(member => !gone.Contains(member.Name))] }, edited._root);
        return isWhole && settings.All(setting => edited.Find(setting.Key) == setting.Value)
            ? edited
            : throw ByHand();
    }
}
