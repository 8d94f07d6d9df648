namespace KvCacheGpu.Configuration;

/// <summary>A .env file, edited where it stands; of a variable written twice the last counts. Its lines are cut and judged as <see cref="EnvVariables"/> does.</summary>
internal sealed class EnvText : IConfigText
{
    private readonly EnvPiece[] _pieces;

    private EnvText(SourceText source)
    {
        Text = source.Text;
        _pieces = [.. EnvDocument.Parse(source)];
    }

    public string Text { get; }

    public bool IsVariables => true;

    // KV_CACHE_ENABLED alone switches the cache on or off in every version.
    public bool HasSection => _pieces.Any(piece => piece.IsOurs && piece.Name != "KV_CACHE_ENABLED");

    public string? DeclaredVersion => Value("KV_CACHE_SCHEMA_VERSION") ?? Value("KV_CACHE_VERSION");

    /// <exception cref="KvConfigurationException">A variable of ours is malformed, or the text holds a NUL (E003).</exception>
    public static EnvText Parse(string path, string text)
    {
        SourceText source = new(path, text);
        EnvText parsed = new(source);
        foreach (EnvPiece piece in parsed._pieces.Where(piece => piece.IsOurs))
        {
            EnvVariables.Check(source, piece);
        }

        return parsed;
    }

    public string? Find(string key) => Value(EnvironmentNames.VariableOf(key)) ?? (KvConfigurationKeys.Find(key)?.OtherVariable is { } other ? Value(other) : null);

    public OldSetting? FindOld(string key) =>
        key == FirstVersion.Size && LastIndex(EnvironmentNames.OldSize) is var at and >= 0 ? new OldSetting(ValueOf(_pieces[at]), _pieces[at].Line) : null;

    /// <summary>The variables whose values name the old size, with their lines: once it has another name, they name nothing.</summary>
    public IEnumerable<(string Variable, int Line)> UsersOfOldSize() => _pieces
        .Where(piece => piece.Value is { } value && EnvValue.Names(value, EnvironmentNames.OldSize))
        .Select(piece => (piece.Name!, piece.Line));

    public IConfigText ReplaceOld(IReadOnlyList<Setting> settings)
    {
        int last = LastIndex(EnvironmentNames.OldSize);
        bool renames = settings.Any(setting => setting.Key == "max_tokens");
        List<string> texts = [.. _pieces.Select((piece, i) =>
            piece.Name != EnvironmentNames.OldSize ? piece.Text
            // The value stays as it is written, quotes and remark with it; what does not count stays to be read.
            : renames && i == last ? piece.Text[..piece.NameAt] + EnvironmentNames.VariableOf("max_tokens") + piece.Text[(piece.NameAt + piece.Name.Length)..]
            : piece.Text.Insert(piece.Text.StartsWith('\uFEFF') ? 1 : 0, "# "))];
        return AddAfter(texts, settings.Where(setting => setting.Key != "max_tokens"));
    }

    public IConfigText Add(IReadOnlyList<Setting> settings) => AddAfter([.. _pieces.Select(piece => piece.Text)], settings);

    private EnvText AddAfter(List<string> texts, IEnumerable<Setting> settings)
    {
        int last = Array.FindLastIndex(_pieces, piece => piece.IsOurs);
        TextFile.InsertAfter(texts, last, settings.Select(setting => $"{EnvironmentNames.VariableOf(setting.Key)}={setting.Value}"), TextFile.NewLineOf(Text));
        return new EnvText(new SourceText(string.Empty, string.Concat(texts)));
    }

    private string? Value(string name) => LastIndex(name) is var at and >= 0 ? ValueOf(_pieces[at]) : null;

    private int LastIndex(string name) => Array.FindLastIndex(_pieces, piece => piece.Name == name);

    // As it is written: what it names is not looked up, since an edit must not depend on the environment.
    private static string ValueOf(EnvPiece piece) => EnvValue.Read(piece.Value!, piece.Name!, name => $"${{{name}}}");
}
