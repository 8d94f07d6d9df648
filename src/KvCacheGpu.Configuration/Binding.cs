using Microsoft.Extensions.Configuration;

namespace KvCacheGpu.Configuration;

/// <summary>Joins sources to one configuration: the strongest source that says a key wins, then the preset, then the default.</summary>
internal static class Binding
{
    public static KvConfiguration Join(IConfigurationRoot root, KvConfigurationSources sources, IReadOnlyList<string> warnings, UnknownMembers unknown)
    {
        string? preset = sources.Preset ?? Find(root, EnvironmentNames.Preset)?.Value;
        IReadOnlyDictionary<string, string>? values = preset is null ? null : KvPresets.Require(preset, EnvironmentNames.Preset);
        KvCacheConfig config = new();
        List<KvSetting> settings = [.. KvConfigurationKeys.All.Select(key =>
        {
            KvSetting setting = Find(root, key) ?? (values?.GetValueOrDefault(key.Name) is { } value
                ? new KvSetting(key.Name, value, new KvSettingOrigin(KvSettingSource.Preset, preset!))
                : new KvSetting(key.Name, key.Default, new KvSettingOrigin(KvSettingSource.Default, string.Empty)));
            key.Write(config, setting.Value);
            return setting;
        })];
        Configure(config, sources.Configure, settings);
        Dictionary<string, KvSettingOrigin> origins = settings.ToDictionary(s => s.Key, s => s.Origin);
        foreach (KvConfigurationIssue issue in config.Validate().Issues)
        {
            throw new KvConfigurationException(Where(origins.GetValueOrDefault(issue.Key), issue.Key), issue.Expected, issue.Actual);
        }

        return new KvConfiguration(config, settings, preset, [.. warnings, .. Unknown(root)], unknown);
    }

    // Whatever the program changed is the program's; all else keeps its origin.
    private static void Configure(KvCacheConfig config, Action<KvCacheConfig>? configure, List<KvSetting> settings)
    {
        configure?.Invoke(config);
        for (int i = 0; i < settings.Count; i++)
        {
            KvConfigurationKey key = KvConfigurationKeys.All[i];
            string? value = key.Read(config);
            if (value != settings[i].Value)
            {
                settings[i] = new KvSetting(key.Name, value, new KvSettingOrigin(KvSettingSource.Code, string.Empty));
            }
        }
    }

    private static KvSetting? Find(IConfigurationRoot root, KvConfigurationKey key)
    {
        // A provider of the host's knows no kinds: whatever it has is a text.
        return Find(root, key.Name) is not { } found ? null
            : found with { Value = key.Canonical(found.Value is null ? NodeKind.Null : NodeKind.Variable, found.Value, Where(found.Origin, key.Name)) };
    }

    private static KvSetting? Find(IConfigurationRoot root, string key)
    {
        string path = SettingsProvider.PathOf(key);
        foreach (IConfigurationProvider provider in root.Providers.Reverse())
        {
            if (provider.TryGet(path, out string? value))
            {
                return new KvSetting(key, value, provider is SettingsProvider own ? own.OriginOf(path) : new KvSettingOrigin(KvSettingSource.File, $"{provider}"));
            }
        }

        return null;
    }

    private static string Where(KvSettingOrigin origin, string key) => origin.Source == KvSettingSource.Default ? key : $"{origin}: {key}";

    private static IEnumerable<string> Unknown(IConfigurationRoot root) =>
        root.GetSection(KvConfiguration.Section).GetChildren().Where(child => KvConfigurationKeys.Find(child.Key) is null)
            .Select(child => $"{child.Path}: {NearestName.Remark(child.Key)}");
}
