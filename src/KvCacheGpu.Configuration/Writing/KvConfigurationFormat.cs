namespace KvCacheGpu.Configuration;

/// <summary>What a configuration is written as.</summary>
public enum KvConfigurationFormat
{
    /// <summary>YAML with remarks.</summary>
    Yaml,

    /// <summary>JSON with // remarks, which this library reads.</summary>
    Json,

    /// <summary>Variables of a .env file with remarks.</summary>
    DotEnv,
}
