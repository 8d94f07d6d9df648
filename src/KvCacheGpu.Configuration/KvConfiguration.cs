using Microsoft.Extensions.Configuration;

namespace KvCacheGpu.Configuration;

/// <summary>A configuration as it is in force: every key's value, and where each comes from.</summary>
/// <remarks>Thread safety: it is only read, from any thread.</remarks>
public sealed class KvConfiguration
{
    /// <summary>The key that all others stand under, in files and in <see cref="IConfiguration"/>.</summary>
    public const string Section = "kv_cache";

    private readonly Dictionary<string, KvSetting> _settings;

    internal KvConfiguration(KvCacheConfig config, IReadOnlyList<KvSetting> settings, string? preset, IReadOnlyList<string> warnings, UnknownMembers unknown)
    {
        (Config, Settings, Preset, Warnings, Unknown) = (config, settings, preset, warnings, unknown);
        _settings = settings.ToDictionary(s => s.Key, StringComparer.OrdinalIgnoreCase);
        Report = config.Validate();
    }

    /// <summary>What a cache or engine is made with.</summary>
    public KvCacheConfig Config { get; }

    /// <summary>Every key of <see cref="KvConfigurationKeys.All"/>, in that order.</summary>
    public IReadOnlyList<KvSetting> Settings { get; }

    /// <summary>The preset under the settings; null where none was named.</summary>
    public string? Preset { get; }

    /// <summary>True if a host applies the configuration. The default value is true.</summary>
    public bool Enabled => Config.Enabled;

    /// <summary>What there is to say of the sources: unknown keys with the nearest known one, keys of version 1. One line each.</summary>
    public IReadOnlyList<string> Warnings { get; }

    /// <summary>What there is to say of the values: what has no effect on this build, or one that may surprise. Has no issue.</summary>
    public KvConfigurationReport Report { get; }

    internal UnknownMembers Unknown { get; }

    /// <summary>The setting of a key.</summary>
    /// <exception cref="KeyNotFoundException">There is no such key.</exception>
    public KvSetting this[string key] => _settings[key];

    /// <summary>Reads, checks and joins all sources.</summary>
    /// <exception cref="KvConfigurationException">E003: a source is malformed, or a value is none that its key takes: file, line and key are named.</exception>
    /// <exception cref="KvNewerVersionException">E007: a file is of a newer schema.</exception>
    /// <exception cref="IOException">A file is not there, or not readable.</exception>
    public static KvConfiguration Load(KvConfigurationSources sources)
    {
        ArgumentNullException.ThrowIfNull(sources);
        ConfigurationBuilder builder = new();
        builder.AddKvCache(sources);
        SettingsSource[] read = [.. builder.Sources.OfType<SettingsSource>()];
        return Binding.Join(
            builder.Build(), sources, [.. read.SelectMany(s => s.Warnings)], read.Select(s => s.Unknown).FirstOrDefault(u => u != UnknownMembers.None) ?? UnknownMembers.None);
    }

    /// <summary>Binds what a host has read, from any provider: the section "kv_cache" and "preset" beside it.</summary>
    /// <param name="root">The host's configuration.</param>
    /// <param name="configure">Sets what the program wants itself.</param>
    /// <exception cref="KvConfigurationException">E003: a value is none that its key takes.</exception>
    public static KvConfiguration From(IConfigurationRoot root, Action<KvCacheConfig>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(root);
        return Binding.Join(root, new KvConfigurationSources { Configure = configure }, [], UnknownMembers.None);
    }

    /// <summary>The same configuration as a file's text: every key with its meaning and default, and the unknown keys of the file it came from.</summary>
    public string ToText(KvConfigurationFormat format) => format switch
    {
        KvConfigurationFormat.Json => JsonWriter.Write(this),
        KvConfigurationFormat.DotEnv => EnvWriter.Write(this),
        _ => YamlWriter.Write(this),
    };

    /// <summary>Writes it to a file, whole or not at all; the name tells the format: .json, .yaml, .yml, or a name that begins or ends in ".env".</summary>
    /// <exception cref="KvConfigurationException">E003: a name of another kind.</exception>
    /// <exception cref="KvPersistenceException">E005: the disk does not take it, or there is a symbolic link. What was there is there still.</exception>
    public void Save(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ConfigurationFile.Write(StoreFiles.OfThisSystem, path, ToText(ConfigurationFile.FormatOf(path)));
    }

    /// <summary>This configuration with some keys as another has them.</summary>
    internal KvConfiguration With(KvConfiguration other, IReadOnlyList<string> keys)
    {
        KvCacheConfig config = Config.Copy();
        List<KvSetting> settings = [.. Settings.Select(setting => keys.Contains(setting.Key) ? other[setting.Key] : setting)];
        foreach (string key in keys)
        {
            KvConfigurationKeys.Find(key)!.Write(config, other[key].Value);
        }

        return new KvConfiguration(config, settings, Preset, Warnings, Unknown);
    }
}
