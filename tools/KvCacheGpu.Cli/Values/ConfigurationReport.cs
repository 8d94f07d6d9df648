using KvCacheGpu.Configuration;

namespace KvCacheGpu.Cli;

/// <summary>The result of checking a configuration.</summary>
/// <param name="File">The file; null if there is none.</param>
/// <param name="EnvFile">The .env file; null if there is none.</param>
/// <param name="Preset">The preset; null if none is named.</param>
/// <param name="Valid">True if an engine can be made with it.</param>
/// <param name="Error">The error, as the line with which other commands would end; null if valid.</param>
/// <param name="Warnings">Warnings about the sources, then about the values.</param>
internal sealed record ConfigurationReport(string? File, string? EnvFile, string? Preset, bool Valid, string? Error, IReadOnlyList<string> Warnings)
{
    /// <summary>Loads and checks a configuration.</summary>
    /// <exception cref="KvConfigurationException">E003: the configuration is malformed.</exception>
    /// <exception cref="KvNewerVersionException">E007: the configuration is of a newer schema.</exception>
    public static ConfigurationReport Of(KvConfigurationSources sources)
    {
        KvConfiguration configuration = KvConfiguration.Load(sources);
        return new ConfigurationReport(
            sources.File, sources.EnvFile, configuration.Preset, Valid: true, null, [.. configuration.Warnings, .. configuration.Report.Warnings.Select(w => $"{w}")]);
    }

    /// <summary>The same, also for a malformed configuration, whose error it reports.</summary>
    public static ConfigurationReport OfAny(KvConfigurationSources sources)
    {
        try
        {
            return Of(sources);
        }
        catch (Exception error) when (error is KvCacheException or IOException or UnauthorizedAccessException)
        {
            return new ConfigurationReport(sources.File, sources.EnvFile, null, Valid: false, error.Message, []);
        }
    }

    /// <summary>"config/kv_cache.yaml, .env: valid, 2 warnings".</summary>
    public string Summary()
    {
        string[] files = [.. new[] { File, EnvFile }.OfType<string>()];
        string warnings = Warnings.Count == 1 ? "1 warning" : $"{Warnings.Count} warnings";
        return $"{(files.Length > 0 ? string.Join(", ", files) : "no file: defaults and environment")}: {(Valid ? $"valid, {warnings}" : Error)}";
    }
}
