namespace KvCacheGpu.Configuration;

/// <summary>Which key a variable sets: KV_CACHE_MAX_TOKENS sets max_tokens, and so on; a few keys have another variable besides.</summary>
internal static class EnvironmentNames
{
    public const string Preset = "preset";

    /// <summary>The size of version 1.</summary>
    public const string OldSize = "KV_CACHE_SIZE";

    /// <summary>The key of a variable; if no key has it, its name by the same rule, for a warning to name.</summary>
    public static string KeyOf(string variable) => variable == OldSize
        ? FirstVersion.Size
        : KvConfigurationKeys.FindVariable(variable)?.Name ?? variable[EnvVariables.Prefix.Length..].ToLowerInvariant();

    /// <summary>The variable of a key.</summary>
    public static string VariableOf(string key) => KvConfigurationKeys.Find(key)?.Variable ?? EnvVariables.Prefix + key.ToUpperInvariant();
}
