namespace KvCacheGpu.Configuration;

/// <summary>Reads one source into checked settings with origins. A source that is wrong is refused whole, also where a stronger one would win.</summary>
internal sealed class SettingsReader
{
    private static readonly string[] _versionKeys = ["version", "schema_version"];

    private readonly List<SettingEntry> _entries = [];
    private readonly List<string> _warnings = [];

    private SettingsReader()
    {
    }

    /// <summary>Reads a JSON or YAML file. One of version 1 is read as its migration.</summary>
    public static SettingsSource File(string path)
    {
        SourceText source = SourceText.Read(path);
        ConfigNode root = Parse(source);
        CheckVersion(source, root);
        SettingsReader reader = new();
        if (!root.Members.Any(member => FirstVersion.SuccessorOf(member.Name) is not null))
        {
            return new SettingsSource(reader._entries, reader._warnings, reader.AddFile(source, root, (_, member) => member.Line));
        }

        IConfigText text = Migrated(source, reader._warnings.Add);
        reader._warnings.Add($"{path}: of version 1, read as its migration; kvcache config migrate writes it so");
        SourceText migrated = source with { Text = text.Text };
        Dictionary<(bool, string), int> lines = LinesOf(root);
        UnknownMembers kept = reader.AddFile(migrated, Parse(migrated), (inSection, member) => lines.TryGetValue((inSection, member.Name.ToUpperInvariant()), out int line) ? line : null);
        return new SettingsSource(reader._entries, reader._warnings, kept);
    }

    /// <summary>Reads a .env file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="file">The file that its variables override; null where there is none.</param>
    /// <param name="environment">The environment, which its values may name.</param>
    public static SettingsSource EnvFile(string path, string? file, IReadOnlyDictionary<string, string> environment)
    {
        SourceText source = SourceText.Read(path);
        IReadOnlyList<EnvLine> lines = EnvVariables.Parse(source, environment);
        SettingsReader reader = new();
        Dictionary<string, int> placed = lines.ToDictionary(line => line.Name, line => line.Line);
        if (lines.Any(line => EnvironmentNames.KeyOf(line.Name) == FirstVersion.Size))
        {
            IConfigText? under = file is null ? null : Migrated(SourceText.Read(file), _ => { });
            IConfigText migrated = ConfigMigration.Migrate(path, EnvText.Parse(path, source.Text), new StepChoice(under, Lossless: false, reader._warnings.Add));
            reader._warnings.Add($"{path}: of version 1, read as its migration; kvcache config migrate writes it so");
            lines = EnvVariables.Parse(source with { Text = migrated.Text }, environment);
            placed.TryAdd(EnvironmentNames.VariableOf("max_tokens"), placed[EnvironmentNames.OldSize]);
        }

        reader.AddVariables(
            lines.Select(line => (line.Name, line.Value)),
            name => placed.TryGetValue(name, out int line) ? source.At(line, name) : $"{path}: {name}",
            name => placed.TryGetValue(name, out int line) ? new(KvSettingSource.EnvFile, source.At(line)) : new(KvSettingSource.Migration, path));
        return new SettingsSource(reader._entries, reader._warnings, UnknownMembers.None);
    }

    /// <summary>Reads variables. Those of version 1 are read as what they became.</summary>
    public static SettingsSource Environment(IEnumerable<KeyValuePair<string, string>> variables)
    {
        SettingsReader reader = new();
        reader.AddVariables(
            variables.Where(v => v.Key.StartsWith(EnvVariables.Prefix, StringComparison.Ordinal)).OrderBy(v => v.Key, StringComparer.Ordinal).Select(v => (v.Key, v.Value)),
            name => $"variable {name}",
            name => new KvSettingOrigin(KvSettingSource.Environment, name));
        return new SettingsSource(reader._entries, reader._warnings, UnknownMembers.None);
    }

    private static ConfigNode Parse(SourceText source) => Path.GetExtension(source.Name).ToLowerInvariant() switch
    {
        ".json" => JsonNodes.Parse(source),
        ".yaml" or ".yml" => YamlNodes.Parse(source),
        _ => throw new KvConfigurationException(source.Name, "a name ending in .json, .yaml or .yml", "another"),
    };

    private static IConfigText Migrated(SourceText source, Action<string> warn)
    {
        IConfigText text = IConfigText.Parse(source.Name, System.Text.Encoding.UTF8.GetBytes(source.Text));
        return ConfigMigration.Migrate(source.Name, text, new StepChoice(null, Lossless: false, warn));
    }

    private static void CheckVersion(SourceText source, ConfigNode root)
    {
        IEnumerable<ConfigMember> section = root.Members.Where(m => m.Name == KvConfiguration.Section).SelectMany(m => m.Node.Members);
        foreach (ConfigMember member in root.Members.Concat(section).Where(m => _versionKeys.Contains(m.Name)))
        {
            CheckVersion(source.At(member.Line, member.Name), member.Node.Text);
        }
    }

    private static void CheckVersion(string where, string? declared)
    {
        if (declared is null || !Version.TryParse(declared.Contains('.', StringComparison.Ordinal) ? declared : declared + ".0", out _))
        {
            throw new KvConfigurationException(where, "a version, 2.1 or older", declared is null ? "none" : $"\"{declared}\"");
        }

        KvConfigVersions.CheckDeclared(where, declared);
    }

    // lineOf: the line that a member stands on in the file as it lies there; null where a migration added it.
    private UnknownMembers AddFile(SourceText source, ConfigNode root, Func<bool, ConfigMember, int?> lineOf)
    {
        if (root.Kind != NodeKind.Mapping)
        {
            throw new KvConfigurationException(source.At(root.Line), $"keys, with {KvConfiguration.Section} among them", "another value");
        }

        List<ConfigMember> inSection = [], beside = [];
        foreach (ConfigMember member in root.Members)
        {
            string where = At(source, lineOf(false, member), member.Name);
            if (member.Name == KvConfiguration.Section)
            {
                AddSection(source, member, lineOf, inSection);
            }
            else if (member.Name == EnvironmentNames.Preset)
            {
                AddPreset(member.Node.Kind is NodeKind.Text or NodeKind.Plain ? member.Node.Text : null, where, Origin(source, lineOf(false, member)));
            }
            else if (!_versionKeys.Contains(member.Name))
            {
                beside.Add(member);
                string remark = KvConfigurationKeys.Find(member.Name) is { } key ? $"{key.Name} belongs under {KvConfiguration.Section}"
                    : NearestName.Of(member.Name, [KvConfiguration.Section, EnvironmentNames.Preset, .. _versionKeys]) is { } near ? $"did you mean {near}?"
                    : "it is kept and has no effect";
                _warnings.Add($"{where}: not a key; {remark}");
            }
        }

        return new UnknownMembers(inSection, beside);
    }

    private void AddSection(SourceText source, ConfigMember section, Func<bool, ConfigMember, int?> lineOf, List<ConfigMember> unknown)
    {
        if (section.Node.Kind is not (NodeKind.Mapping or NodeKind.Null))
        {
            throw new KvConfigurationException(At(source, lineOf(false, section), section.Name), "keys beneath it", "another value");
        }

        foreach (ConfigMember member in section.Node.Members)
        {
            int? line = lineOf(true, member);
            string where = At(source, line, member.Name);
            if (KvConfigurationKeys.Find(member.Name) is { } key)
            {
                _entries.Add(new SettingEntry(key.Name, key.Canonical(member.Node.Kind, member.Node.Text, where), Origin(source, line)));
            }
            else if (!_versionKeys.Contains(member.Name))
            {
                unknown.Add(member);
                Warn(where, member.Name);
            }
        }
    }

    private void AddVariables(IEnumerable<(string Name, string Value)> variables, Func<string, string> where, Func<string, KvSettingOrigin> origin)
    {
        (string Name, string Value)[] all = [.. variables];
        foreach ((string name, string value) in all)
        {
            string key = EnvironmentNames.KeyOf(name), place = where(name);
            if (_versionKeys.Contains(key))
            {
                CheckVersion(place, value);
                continue;
            }

            if (key == EnvironmentNames.Preset)
            {
                AddPreset(value, place, origin(name));
                continue;
            }

            string? successor = FirstVersion.SuccessorOf(key);
            if (KvConfigurationKeys.Find(successor ?? key) is not { } known)
            {
                Warn(place, key);
                continue;
            }

            // The variable that is named as its key wins over its other names.
            string? text = known.Canonical(NodeKind.Variable, value, place);
            if (name != known.Variable && all.Any(v => v.Name == known.Variable))
            {
                _warnings.Add($"{place}: inactive beside {known.Variable}");
            }
            else
            {
                _entries.Add(new SettingEntry(known.Name, text, origin(name)));
                if (successor is not null)
                {
                    _warnings.Add($"{place}: of version 1, read as {known.Variable}");
                }
            }
        }
    }

    private void AddPreset(string? name, string where, KvSettingOrigin origin)
    {
        _ = KvPresets.Require(name, where);
        _entries.Add(new SettingEntry(EnvironmentNames.Preset, name, origin));
    }

    private void Warn(string where, string key) => _warnings.Add($"{where}: {NearestName.Remark(key)}");

    private static string At(SourceText source, int? line, string key) => line is { } known ? source.At(known, key) : $"{source.Name}: {key}";

    private static KvSettingOrigin Origin(SourceText source, int? line) =>
        line is { } known ? new(KvSettingSource.File, source.At(known)) : new(KvSettingSource.Migration, source.Name);

    // Where a file of version 1 says what is read from its migration: old keys by what they became.
    private static Dictionary<(bool InSection, string Name), int> LinesOf(ConfigNode root)
    {
        Dictionary<(bool, string), int> lines = [];
        foreach (ConfigMember member in root.Members)
        {
            lines.TryAdd((false, member.Name.ToUpperInvariant()), member.Line);
            foreach (ConfigMember inner in member.Name == KvConfiguration.Section ? member.Node.Members : [])
            {
                lines.TryAdd((true, inner.Name.ToUpperInvariant()), inner.Line);
            }
        }

        foreach (ConfigMember member in root.Members.Where(member => FirstVersion.SuccessorOf(member.Name) is not null))
        {
            lines.TryAdd((true, FirstVersion.SuccessorOf(member.Name)!.ToUpperInvariant()), member.Line);
        }

        return lines;
    }
}
