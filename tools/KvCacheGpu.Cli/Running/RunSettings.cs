using KvCacheGpu.Configuration;
using KvCacheGpu.Evaluation;

namespace KvCacheGpu.Cli;

/// <summary>The settings of a run's cache: the options of the command line, over the configuration that --config names, if any.</summary>
/// <param name="configuration">The configuration. If it is null or switched off, only the options count.</param>
/// <param name="geometry">The model's shape.</param>
/// <param name="options">Sets what options say.</param>
internal sealed class RunSettings(KvConfiguration? configuration, KvGeometry geometry, Action<KvCacheOptions> options)
{
    private readonly KvConfiguration? _active = configuration is { Enabled: true } ? configuration : null;

    /// <summary>Loads the configuration that --config names, with .env and the environment over it; null without --config.</summary>
    public static KvConfiguration? Load(string? file, Terminal terminal)
    {
        if (file is null)
        {
            return null;
        }

        ConfigPlace.RequireThere("--config", file);
        KvConfiguration? configuration = null;
        ConfigPlace.Guarded(() => configuration = KvConfiguration.Load(KvConfigurationSources.Find(file)));
        foreach (string warning in configuration!.Warnings)
        {
            terminal.Error.WriteLine($"warning: {warning}");
        }

        return configuration;
    }

    /// <summary>The settings for as many tokens.</summary>
    /// <exception cref="UsageException">The configuration allows fewer.</exception>
    public KvCacheOptions For(int tokens)
    {
        if (_active is null)
        {
            KvCacheOptions plain = new() { MaxTokens = tokens };
            options(plain);
            plain.DemotionFormats = EvalCaches.DemotionsOf(plain, geometry);
            return plain;
        }

        KvCacheConfig config = _active.Config.Copy();
        if (_active["max_tokens"].Origin is { Source: not KvSettingSource.Default } origin && config.MaxTokens < tokens)
        {
            throw new UsageException($"{origin}: max_tokens", $"at least the {tokens} of the prompt and its continuation", $"{config.MaxTokens}");
        }

        config.MaxTokens = tokens;
        config.ConfigureOptions += options;
        return config.ToOptions(geometry);
    }
}
