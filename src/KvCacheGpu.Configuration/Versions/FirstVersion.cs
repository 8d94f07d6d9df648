namespace KvCacheGpu.Configuration;

/// <summary>Version 1: two flat keys, read as what they became.</summary>
internal static class FirstVersion
{
    public const string Size = "kv_cache_size";
    public const string Strategy = "kv_cache_strategy";

    /// <summary>The key that took an old one's place; null where it is none.</summary>
    public static string? SuccessorOf(string key) => key switch
    {
        Size => "max_tokens",
        Strategy => "cache_strategy",
        _ => null,
    };
}
