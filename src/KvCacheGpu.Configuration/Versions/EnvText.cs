using System.Text.RegularExpressions;

namespace KvCacheGpu.Configuration;

/// <summary>A .env file: KEY=value lines, comments, <c>export</c>, quotes; of a key written twice the last counts.</summary>
internal sealed partial class EnvText : IConfigText
{
    private const string Prefix = "KV_CACHE_";
    private const string OldSize = "KV_CACHE_SIZE";

    private readonly List<string> _lines;

    private EnvText(List<string> lines) => _lines = lines;

    public string Text => string.Concat(_lines);

    public bool IsVariables => true;

    // KV_CACHE_ENABLED alone switches the cache on or off in every version.
    public bool HasSection => _lines.Any(line => NameOf(line) is { } name && name.StartsWith(Prefix, StringComparison.Ordinal) && name != "KV_CACHE_ENABLED");

    public string? DeclaredVersion => Value("KV_CACHE_SCHEMA_VERSION") ?? Value("KV_CACHE_VERSION");

    public static EnvText Parse(string path, string text)
    {
        List<string> lines = TextFile.Lines(text);
        for (int i = 0; i < lines.Count; i++)
        {
            string line = lines[i].Trim().TrimStart('\uFEFF').TrimStart();
            if (line.Length > 0 && line[0] != '#' && NameOf(lines[i]) is null)
            {
                throw new KvConfigurationException($"{path}:{i + 1}", "KEY=value, a comment or nothing", "another line");
            }

            if (line.Contains('\0', StringComparison.Ordinal))
            {
                throw new KvConfigurationException($"{path}:{i + 1}", "text", "a NUL");
            }
        }

        return new EnvText(lines);
    }

    public string? Find(string key) => Value(VariableOf(key)) ?? (key == "use_compression" ? Value("KV_CACHE_COMPRESSION") : null);

    public OldSetting? FindOld(string key) =>
        key == "kv_cache_size" && LastLine(OldSize) is var line and >= 0 ? new OldSetting(ValueOf(_lines[line]), line + 1) : null;

    public IConfigText ReplaceOld(IReadOnlyList<Setting> settings)
    {
        var lines = new List<string>(_lines);
        int last = LastLine(OldSize);
        bool renames = settings.Any(setting => setting.Key == "max_tokens");
        for (int i = 0; i < lines.Count; i++)
        {
            if (NameOf(lines[i]) == OldSize)
            {
                Group name = Assignment().Match(lines[i]).Groups["name"];
                // The value stays as it is written, quotes and comment with it; what does not count stays to be read.
                lines[i] = renames && i == last
                    ? lines[i][..name.Index] + VariableOf("max_tokens") + lines[i][(name.Index + name.Length)..]
                    : lines[i].Insert(lines[i].StartsWith('\uFEFF') ? 1 : 0, "# ");
            }
        }

        return new EnvText(lines).AddAfter(last, settings.Where(setting => setting.Key != "max_tokens"));
    }

    public IConfigText Add(IReadOnlyList<Setting> settings) => AddAfter(-1, settings);

    /// <summary>The variable of a key: KV_CACHE_ and the key, but KV_CACHE_STRATEGY for cache_strategy.</summary>
    public static string VariableOf(string key) => key == "cache_strategy" ? "KV_CACHE_STRATEGY" : Prefix + key.ToUpperInvariant();

    private EnvText AddAfter(int least, IEnumerable<Setting> settings)
    {
        var lines = new List<string>(_lines);
        int last = Math.Max(least, lines.FindLastIndex(line => NameOf(line)?.StartsWith(Prefix, StringComparison.Ordinal) == true));
        TextFile.InsertAfter(lines, last, settings.Select(setting => $"{VariableOf(setting.Key)}={setting.Value}"), TextFile.NewLineOf(Text));
        return new EnvText(lines);
    }

    private string? Value(string name) => LastLine(name) is var line and >= 0 ? ValueOf(_lines[line]) : null;

    private int LastLine(string name) => _lines.FindLastIndex(line => NameOf(line) == name);

    private static string? NameOf(string line) => Assignment().Match(line) is { Success: true } match ? match.Groups["name"].Value : null;

    private static string ValueOf(string line)
    {
        string value = Assignment().Match(line).Groups["value"].Value.Trim();
        if (value.Length > 0 && value[0] is '"' or '\'' && value.IndexOf(value[0], 1) is var end and > 0)
        {
            return value[1..end];
        }

        int comment = value.StartsWith('#') ? 0 : value.IndexOf(" #", StringComparison.Ordinal);
        return comment < 0 ? value : value[..comment].TrimEnd();
    }

    [GeneratedRegex(@"^\uFEFF?\s*(?:export\s+)?(?<name>[A-Za-z_][A-Za-z0-9_.]*)\s*=(?<value>.*)$", RegexOptions.Singleline | RegexOptions.ExplicitCapture)]
    private static partial Regex Assignment();
}
