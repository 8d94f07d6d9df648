namespace KvCacheGpu.Configuration;

/// <summary>A YAML configuration: block style at the root; the <c>kv_cache</c> block may be written in braces.</summary>
internal sealed class YamlText : IConfigText
{
    private const string Section = "kv_cache";

    private readonly string _path;
    private readonly string _mark;
    private readonly string _body;
    private readonly List<YamlMember> _root;
    private readonly YamlMember? _section;

    private YamlText(string path, string text)
    {
        // The parser takes no byte order mark within a text.
        _mark = text.StartsWith('\uFEFF') ? "\uFEFF" : string.Empty;
        (_path, _body) = (path, text[_mark.Length..]);
        _root = YamlMember.Read(path, _body);
        YamlMember? section = _root.Find(member => member.Name == Section);
        if (section is { Members: null, Value: not ("" or "~" or "null") })
        {
            throw new KvConfigurationException($"{path}:{section.Line}: {Section}", "keys beneath it", "another value");
        }

        _section = section?.Members is null ? null : section;
    }

    public string Text => _mark + _body;

    public bool IsVariables => false;

    public bool HasSection => _section is not null;

    public string? DeclaredVersion => FindIn(_root, "schema_version") ?? FindIn(_root, "version") ?? Find("schema_version") ?? Find("version");

    public static YamlText Parse(string path, string text) => new(path, text);

    public string? Find(string key) => FindIn(_section?.Members ?? [], key);

    public OldSetting? FindOld(string key) =>
        _root.Find(member => member.Name == key) is { } old ? new OldSetting(old.Value ?? string.Empty, old.Line) : null;

    public IConfigText ReplaceOld(IReadOnlyList<Setting> settings)
    {
        YamlMember[] old = [.. _root.Where(member => member.Name is "kv_cache_size" or "kv_cache_strategy")];
        bool empty = _root.Exists(member => member.Name == Section) && !HasSection;
        if (empty || Array.Exists(old, member => member.LastLine != member.Line || member.Members is not null))
        {
            throw new KvConfigurationException($"{_path}:{old[0].Line}: {old[0].Name}", "version 1's keys each on a line of its own, and no empty kv_cache", "another form");
        }

        List<string> lines = TextFile.Lines(_body);
        string newLine = TextFile.NewLineOf(_body);
        List<string> block = [.. HasSection ? [] : settings.Select(setting => "  " + LineOf(setting, old))];
        foreach (YamlMember member in old.OrderByDescending(member => member.Line))
        {
            bool isFirst = !HasSection && member == old.MinBy(one => one.Line);
            string line = lines[member.Line - 1];
            string[] rest = isFirst ? [$"{Section}:", .. block] : HasSection && RemarkOf(member) is { } remark ? [remark] : [];
            string ending = line.EndsWith('\n') ? newLine : string.Empty;
            lines.RemoveAt(member.Line - 1);
            lines.InsertRange(member.Line - 1, rest.Select((one, i) => one + (i == rest.Length - 1 ? ending : newLine)));
        }

        YamlText result = Checked(string.Concat(lines), [.. old.Select(member => "/" + member.Name)], HasSection ? [] : settings);
        return HasSection ? result.Add(settings) : result;
    }

    public IConfigText Add(IReadOnlyList<Setting> settings)
    {
        if (settings.Count == 0)
        {
            return this;
        }

        YamlMember section = _section!;
        if (section.IsFlow)
        {
            string list = string.Join(", ", settings.Select(setting => LineOf(setting, [])));
            int place = section.Members is [.., { } tail] ? tail.ValueEnd : section.ValueStart + 1;
            return Checked(_body[..place] + (section.Members!.Count > 0 ? ", " : string.Empty) + list + _body[place..], [], settings);
        }

        List<string> lines = TextFile.Lines(_body);
        YamlMember last = section.Members![^1];
        int end = Math.Max(last.Line, last.LastLine);
        for (int i = end; i < lines.Count && (string.IsNullOrWhiteSpace(lines[i]) || IndentOf(lines[i]) > last.Column || IsOwnRemark(lines[i], last.Column)); i++)
        {
            end = string.IsNullOrWhiteSpace(lines[i]) ? end : i + 1;
        }

        string indent = new(' ', last.Column);
        TextFile.InsertAfter(lines, end - 1, settings.Select(setting => indent + LineOf(setting, [])), TextFile.NewLineOf(_body));
        return Checked(string.Concat(lines), [], settings);
    }

    // A value of version 1 goes over as it is written, quotes and remark with it.
    private string LineOf(Setting setting, YamlMember[] old)
    {
        string name = setting.Key == "max_tokens" ? "kv_cache_size" : setting.Key == "cache_strategy" ? "kv_cache_strategy" : string.Empty;
        return Array.Find(old, member => member.Name == name) is { } member
            ? setting.Key + _body[member.NameEnd..EndOfLine(member.NameEnd)]
            : $"{setting.Key}: {setting.Value}";
    }

    private string? RemarkOf(YamlMember member)
    {
        string rest = _body[member.ValueEnd..EndOfLine(member.ValueEnd)].Trim();
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

    private static string? FindIn(List<YamlMember> members, string key) => members.Find(member => member.Name == key)?.Value;

    // YAML has more forms than an edit by lines can know: what is read afterwards decides.
    private YamlText Checked(string text, string[] gone, IReadOnlyList<Setting> settings)
    {
        var edited = new YamlText(_path, _mark + text);
        HashSet<(string, string)> after = [.. YamlMember.Leaves(edited._root)];
        bool isWhole = YamlMember.Leaves(_root).All(leaf => gone.Contains(leaf.Path) || after.Contains(leaf));
        return isWhole && settings.All(setting => edited.Find(setting.Key) == setting.Value)
            ? edited
            : throw new KvConfigurationException(_path, "a form of YAML that can be edited line by line", "one to be migrated by hand");
    }
}
