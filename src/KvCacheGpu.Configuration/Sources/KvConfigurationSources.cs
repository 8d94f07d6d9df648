using System.Collections;

namespace KvCacheGpu.Configuration;

/// <summary>Where a configuration is read from. Code wins over the environment, that over .env, that over the file, that over a preset.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
public sealed record KvConfigurationSources
{
    /// <summary>A .json, .yaml or .yml file. The default value is null: none.</summary>
    public string? File { get; init; }

    /// <summary>A .env file. The default value is null: none.</summary>
    public string? EnvFile { get; init; }

    /// <summary>Environment variables; those that begin with KV_CACHE_ count. The default value is null: those of the process.</summary>
    public IReadOnlyDictionary<string, string>? Environment { get; init; }

    /// <summary>A preset, in place of the one that a file or variable names. The default value is null.</summary>
    public string? Preset { get; init; }

    /// <summary>Sets what the program wants itself. The default value is null.</summary>
    public Action<KvCacheConfig>? Configure { get; init; }

    /// <summary>Those that are there: what is named, else the first of <see cref="KvConfigLocation.DefaultFiles"/> and .env, and the process's environment.</summary>
    /// <param name="file">The file, which must be there; null looks for one.</param>
    /// <param name="env">The .env file, which must be there; null looks for one.</param>
    /// <exception cref="KvConfigurationException">E003: files of two places, or a file of another kind.</exception>
    public static KvConfigurationSources Find(string? file = null, string? env = null)
    {
        KvConfigLocation location = KvConfigLocation.Find(file, env);
        return new KvConfigurationSources
        {
            File = file ?? Found(location, location.File),
            EnvFile = env ?? Found(location, location.Env),
        };
    }

    internal IReadOnlyDictionary<string, string> Variables() => Environment
        ?? System.Environment.GetEnvironmentVariables().Cast<DictionaryEntry>().ToDictionary(e => (string)e.Key, e => (string)e.Value!);

    private static string? Found(KvConfigLocation location, string name)
    {
        string path = Path.Combine(location.Root, name), near = Path.GetRelativePath(".", path);
        return !System.IO.File.Exists(path) ? null : near.StartsWith("..", StringComparison.Ordinal) ? path : near;
    }
}
