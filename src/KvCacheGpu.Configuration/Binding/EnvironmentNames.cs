namespace KvCacheGpu.Configuration;

/// <summary>Which key a variable sets: KV_CACHE_MAX_TOKENS sets max_tokens, and so on; few have other names.</summary>
internal static class EnvironmentNames
{
    public const string Preset = "preset";

    /// <summary>The size of version 1.</summary>
    public const string OldSize = "KV_CACHE_SIZE";

    private static readonly Dictionary<string, string> _other = new(StringComparer.Ordinal)
    {
        ["STRATEGY"] = "cache_strategy",
        ["COMPRESSION"] = "use_compression",
        ["SIZE"] = FirstVersion.Size,
    };

    /// <summary>The key of a variable; one that no key has comes out by the same rule, for a warning to name.</summary>
    public static string KeyOf(string variable)
    {
        string name = variable[EnvVariables.Prefix.Length..];
        return _other.TryGetValue(name, out string? key) ? key : name.ToLowerInvariant();
    }

    /// <summary>The variable of a key.</summary>
    public static string VariableOf(string key) => EnvVariables.Prefix + (key == "cache_strategy" ? "STRATEGY" : key.ToUpperInvariant());
}
