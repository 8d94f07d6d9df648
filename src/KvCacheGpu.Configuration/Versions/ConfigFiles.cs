namespace KvCacheGpu.Configuration;

/// <summary>The two files of a configuration as they lie there, and what a migration makes of them.</summary>
internal sealed class ConfigFiles
{
    private readonly KvConfigLocation _location;
    private readonly FileImage? _file;
    private readonly FileImage? _env;
    private readonly IConfigText? _fileText;
    private readonly IConfigText? _envText;

    private ConfigFiles(KvConfigLocation location, FileImage? file, FileImage? env)
    {
        (_location, _file, _env) = (location, file, env);
        _fileText = file is null ? null : IConfigText.Parse(location.File, file.Bytes);
        _envText = env is null ? null : EnvText.Parse(location.Env, TextFile.Decode(location.Env, env.Bytes));
    }

    public KvConfigVersion? FileVersion => _fileText is null ? null : ConfigMigration.VersionOf(_location.File, _fileText, null);

    public KvConfigVersion? EnvVersion => _envText is null ? null : ConfigMigration.VersionOf(_location.Env, _envText, _fileText);

    public bool IsOld => FileVersion < KvConfigVersion.V21 || EnvVersion < KvConfigVersion.V21;

    /// <summary>The older of both versions, in a word.</summary>
    public string VersionName => new[] { FileVersion, EnvVersion }.OfType<KvConfigVersion>().Order().Select(version => version.Name()).FirstOrDefault() ?? "none";

    /// <summary>What is there, to be saved.</summary>
    public IReadOnlyList<(string Path, FileImage Image)> Images => Of(_location, _file, _env);

    public static ConfigFiles Read(RootedFiles files, KvConfigLocation location) =>
        new(location, files.Read(location.File, TextFile.MostBytes), files.Read(location.Env, TextFile.MostBytes));

    /// <summary>What is there, be it malformed.</summary>
    public static IReadOnlyList<(string Path, FileImage Image)> ReadImages(RootedFiles files, KvConfigLocation location) =>
        Of(location, files.Read(location.File, TextFile.MostBytes), files.Read(location.Env, TextFile.MostBytes));

    /// <summary>The changes of a migration, the file's first; the bytes of what does not change are not in it.</summary>
    public IReadOnlyList<(FileChange Change, KvMigratedFile Told)> Migrate(bool lossless, Action<string> warn)
    {
        var changes = new List<(FileChange, KvMigratedFile)>();
        IConfigText? file = _fileText;
        if (file is not null && FileVersion is { } fileVersion)
        {
            file = ConfigMigration.Migrate(_location.File, file, new StepChoice(null, lossless, warn));
            Add(_location.File, _file!, fileVersion, _fileText!, file, null);
        }

        if (_envText is not null && EnvVersion is { } envVersion)
        {
            IConfigText env = ConfigMigration.Migrate(_location.Env, _envText, new StepChoice(file, lossless, warn));
            Add(_location.Env, _env!, envVersion, _envText, env, IsOurs);
        }

        return changes;

        void Add(string path, FileImage before, KvConfigVersion from, IConfigText old, IConfigText text, Func<string, bool>? isShown)
        {
            if (old.Text != text.Text)
            {
                changes.Add((
                    new FileChange(path, before, before with { Bytes = TextFile.ToBytes(text.Text) }),
                    new KvMigratedFile(path, from, KvConfigVersion.V21, UnifiedDiff.Of(path, old.Text, text.Text, isShown))));
            }
        }
    }

    // The rest of a .env file are other programs' variables, and passwords among them.
    private static bool IsOurs(string line)
    {
        string text = line.Trim();
        text = text.StartsWith("export", StringComparison.Ordinal) ? text["export".Length..].TrimStart() : text;
        return text.Length == 0 || text.StartsWith("KV_CACHE_", StringComparison.Ordinal);
    }

    private static IReadOnlyList<(string Path, FileImage Image)> Of(KvConfigLocation location, FileImage? file, FileImage? env) =>
    [
        .. file is null ? [] : new[] { (location.File, file) },
        .. env is null ? [] : new[] { (location.Env, env) },
    ];
}
