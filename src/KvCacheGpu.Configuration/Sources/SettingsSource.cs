using Microsoft.Extensions.Configuration;

namespace KvCacheGpu.Configuration;

/// <summary>A setting as one source says it, checked.</summary>
/// <param name="Key">The key, "max_tokens"; one that is not known as it stands there.</param>
/// <param name="Value">Its value as files write it.</param>
/// <param name="Origin">Where it stands.</param>
internal readonly record struct SettingEntry(string Key, string? Value, KvSettingOrigin Origin);

/// <summary>One source's settings, under "kv_cache", and its preset beside it.</summary>
/// <param name="entries">Its settings.</param>
/// <param name="warnings">What there is to say of them.</param>
/// <param name="unknown">What it has besides, to be kept: under "kv_cache", and beside it.</param>
internal sealed class SettingsSource(IReadOnlyList<SettingEntry> entries, IReadOnlyList<string> warnings, UnknownMembers unknown) : IConfigurationSource
{
    public IReadOnlyList<string> Warnings => warnings;

    public UnknownMembers Unknown => unknown;

    public IConfigurationProvider Build(IConfigurationBuilder builder) => new SettingsProvider(entries);
}

/// <summary>Keys that nobody knows, in a file.</summary>
internal sealed record UnknownMembers(IReadOnlyList<ConfigMember> InSection, IReadOnlyList<ConfigMember> Beside)
{
    public static UnknownMembers None { get; } = new([], []);
}

/// <summary>Tells values to <see cref="IConfiguration"/>, and where each stands to whom asks.</summary>
internal sealed class SettingsProvider(IReadOnlyList<SettingEntry> entries) : ConfigurationProvider
{
    private readonly Dictionary<string, KvSettingOrigin> _origins = entries.ToDictionary(e => PathOf(e.Key), e => e.Origin, StringComparer.OrdinalIgnoreCase);

    /// <summary>The path of a key in <see cref="IConfiguration"/>, "kv_cache:max_tokens".</summary>
    public static string PathOf(string key) => key == EnvironmentNames.Preset ? key : ConfigurationPath.Combine(KvConfiguration.Section, key);

    public override void Load() => Data = entries.ToDictionary(e => PathOf(e.Key), e => e.Value, StringComparer.OrdinalIgnoreCase);

    public KvSettingOrigin OriginOf(string path) => _origins[path];
}
