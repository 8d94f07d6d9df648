namespace KvCacheGpu.Configuration;

/// <summary>Where values come from, lowest precedence first.</summary>
public enum KvSettingSource
{
    /// <summary>Nobody set it.</summary>
    Default,

    /// <summary>A preset that was named.</summary>
    Preset,

    /// <summary>What a file of version 1 has once it is migrated.</summary>
    Migration,

    /// <summary>A JSON or YAML file.</summary>
    File,

    /// <summary>A .env file.</summary>
    EnvFile,

    /// <summary>The process's environment.</summary>
    Environment,

    /// <summary>The program.</summary>
    Code,
}

/// <summary>Where a value comes from.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Source">Which kind of source.</param>
/// <param name="Place">The place in it: "kv_cache.yaml:3", a variable's or a preset's name; empty for defaults and code.</param>
public readonly record struct KvSettingOrigin(KvSettingSource Source, string Place)
{
    /// <summary>"default", "preset production", "kv_cache.yaml:3", ".env:2", "variable KV_CACHE_STRATEGY", "code".</summary>
    public override string ToString() => Source switch
    {
        KvSettingSource.Default => "default",
        KvSettingSource.Migration => $"migration of {Place}",
        KvSettingSource.Preset => $"preset {Place}",
        KvSettingSource.Environment => $"variable {Place}",
        KvSettingSource.Code => "code",
        _ => Place,
    };
}

/// <summary>A key's value in force.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Key">The flat key, "max_tokens".</param>
/// <param name="Value">Its value as files write it; null where there is none.</param>
/// <param name="Origin">Where it comes from.</param>
public readonly record struct KvSetting(string Key, string? Value, KvSettingOrigin Origin);
