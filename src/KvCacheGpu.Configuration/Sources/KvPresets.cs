namespace KvCacheGpu.Configuration;

/// <summary>Named sets of values, above the defaults and below everything that says a key itself.</summary>
public static class KvPresets
{
    private static readonly Dictionary<string, Dictionary<string, string>> _presets = new()
    {
        ["development"] = new() { ["max_tokens"] = "1024", ["enable_persistence"] = "false" },
        ["production"] = new() { ["max_tokens"] = "16384", ["enable_persistence"] = "true", ["persistence_path"] = "/data/cache" },
        ["high_performance"] = new() { ["max_tokens"] = "32768", ["enable_prefetch"] = "true", ["prefetch_size"] = "16" },
        ["memory_efficient"] = new() { ["max_tokens"] = "4096", ["compression_ratio"] = "0.5", ["use_quantization"] = "true", ["quantization_bits"] = "4" },
        ["bulk_processing"] = new() { ["max_tokens"] = "32768", ["cache_mode"] = "bulk" },
    };

    /// <summary>All names.</summary>
    public static IReadOnlyCollection<string> Names => _presets.Keys;

    /// <summary>A preset's keys and values as files write them; null where there is none of that name.</summary>
    public static IReadOnlyDictionary<string, string>? Find(string name) => _presets.GetValueOrDefault(name);

    /// <exception cref="KvConfigurationException">E003: there is none of that name.</exception>
    internal static IReadOnlyDictionary<string, string> Require(string? name, string where) =>
        name is not null && Find(name) is { } preset
            ? preset
            : throw new KvConfigurationException(where, $"one of {string.Join(", ", Names)}", name is null ? "another value" : $"\"{name}\"");
}
