namespace KvCacheGpu.Configuration;

/// <summary>
/// Where a configuration lies: a root, and beneath it the file (JSON or YAML) and the .env file. Backups and journals lie in <c>.kvcache</c> under the root.
/// </summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Root">The root, an absolute path; exists.</param>
/// <param name="File">The configuration's file, relative to the root. It need not exist.</param>
/// <param name="Env">The .env file, relative to the root. It need not exist.</param>
public sealed record KvConfigLocation(string Root, string File, string Env)
{
    /// <summary>Where the file is looked for, in this order, when none is named.</summary>
    public static IReadOnlyList<string> DefaultFiles { get; } =
    [
        "config/kv_cache.yaml", "config/kv_cache.yml", "config/kv_cache.json",
        // Where scripts/migrate_v1_to_v2.py of the Python original wrote and read.
        "config/new_config.json", "config/old_config.json",
    ];

    /// <summary>Finds the root of what is named: the folder that holds both files (of <c>config/...</c>, the one above); the current folder where none is.</summary>
    /// <param name="file">The configuration's file. Default: the first of <see cref="DefaultFiles"/> that is there.</param>
    /// <param name="env">The .env file. Default: <c>.env</c> in the root.</param>
    /// <exception cref="KvConfigurationException">Files of two places, or a file that is no .json, .yaml or .yml (E003).</exception>
    public static KvConfigLocation Find(string? file = null, string? env = null)
    {
        string? wholeFile = file is null ? null : Path.GetFullPath(file), wholeEnv = env is null ? null : Path.GetFullPath(env);
        if (wholeFile is not null && Path.GetExtension(wholeFile).ToLowerInvariant() is not (".json" or ".yaml" or ".yml"))
        {
            throw new KvConfigurationException("the configuration's file", "a name ending in .json, .yaml or .yml", $"'{file}'");
        }

        string root = wholeEnv is not null ? Common(Path.GetDirectoryName(wholeEnv)!, wholeFile is null ? null : Path.GetDirectoryName(wholeFile)!)
            : wholeFile is not null ? Above(Path.GetDirectoryName(wholeFile)!)
            : Path.GetFullPath(".");
        if (root == "/")
        {
            throw new KvConfigurationException("the configuration's file and the .env file", "one folder above both", $"'{file}', '{env}'");
        }

        string found = wholeFile ?? DefaultFiles.Select(name => Path.Combine(root, name)).FirstOrDefault(System.IO.File.Exists) ?? Path.Combine(root, DefaultFiles[0]);
        return new KvConfigLocation(root, Path.GetRelativePath(root, found), Path.GetRelativePath(root, wholeEnv ?? Path.Combine(root, ".env")));
    }

    private static string Above(string folder) => Path.GetFileName(folder) == "config" && Path.GetDirectoryName(folder) is { } above and not "/" ? above : folder;

    private static string Common(string one, string? other)
    {
        string common = one;
        while (other is not null && common != "/" && other != common && !other.StartsWith(common + "/", StringComparison.Ordinal))
        {
            common = Path.GetDirectoryName(common)!;
        }

        return common;
    }
}
