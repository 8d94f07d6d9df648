namespace KvCacheGpu.Configuration;

/// <summary>Versions of the configuration's format, in order.</summary>
public enum KvConfigVersion
{
    /// <summary>1.x: flat <c>kv_cache_size</c> and <c>kv_cache_strategy</c>; <c>KV_CACHE_SIZE</c>.</summary>
    V1,

    /// <summary>2.0: keys under <c>kv_cache</c>; <c>KV_CACHE_MAX_TOKENS</c> and the like.</summary>
    V20,

    /// <summary>2.1: with <c>enable_prefetch</c> and <c>prefetch_size</c>. What this library reads.</summary>
    V21,
}

/// <summary>Texts of versions.</summary>
public static class KvConfigVersions
{
    /// <summary>"1.x", "2.0", "2.1".</summary>
    public static string Name(this KvConfigVersion version) => version switch
    {
        KvConfigVersion.V1 => "1.x",
        KvConfigVersion.V20 => "2.0",
        _ => "2.1",
    };

    /// <summary>Refuses what a later version of this library declares itself to be.</summary>
    /// <exception cref="KvNewerVersionException">It is newer (E007).</exception>
    internal static void CheckDeclared(string path, string? declared)
    {
        if (declared is not null && System.Version.TryParse(declared.Contains('.', StringComparison.Ordinal) ? declared : declared + ".0", out Version? version)
            && version > new Version(2, 1))
        {
            throw new KvNewerVersionException(path, "schema 2.1 or older", declared);
        }
    }
}
