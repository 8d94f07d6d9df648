using Microsoft.Extensions.Configuration;

namespace KvCacheGpu.Configuration;

/// <summary>Adds a cache's sources to a host's configuration.</summary>
public static class KvConfigurationBuilding
{
    /// <summary>Adds the file, .env and the environment, in this order of precedence: later ones win. They are read at once.</summary>
    /// <exception cref="KvConfigurationException">E003: a source is malformed: file, line and key are named.</exception>
    /// <exception cref="KvNewerVersionException">E007: a file is of a newer schema.</exception>
    /// <exception cref="IOException">A file is not there, or not readable.</exception>
    public static IConfigurationBuilder AddKvCache(this IConfigurationBuilder builder, KvConfigurationSources sources)
    {
        ArgumentNullException.ThrowIfNull(builder);
        ArgumentNullException.ThrowIfNull(sources);
        if (sources.File is { } file)
        {
            builder.Add(SettingsReader.File(file));
        }

        if (sources.EnvFile is { } env)
        {
            builder.Add(SettingsReader.EnvFile(env, sources.File, sources.Variables()));
        }

        return builder.Add(SettingsReader.Environment(sources.Variables()));
    }
}
