namespace KvCacheGpu;

/// <content>What changes while the engine runs.</content>
public sealed partial class UltraAdaptiveKvCacheEngine
{
    /// <summary>
    /// Takes those keys of a configuration that a running engine can change, from the next plan or call on: <c>enable_gc</c>, <c>gc_threshold</c>,
    /// <c>tenant_max_tokens</c>, <c>monitor_memory</c>, <c>enable_profiling</c>. Leaves all others alone. A
    /// <see cref="KvCacheOptions.Watermark"/> that code has set stays.
    /// </summary>
    /// <exception cref="KvConfigurationException">E003: one of them is refused. Nothing has changed.</exception>
    public void Apply(KvCacheConfig config)
    {
        ArgumentNullException.ThrowIfNull(config);
        KvCacheConfig wanted = _config.Copy();
        Take(wanted, config);
        _ = wanted.ThrowIfRefused(Cache.Geometry);
        Take(_config, config);
        Cache.Watermark = KeyMapping.OptionsOf(_config, Cache.Geometry).Watermark;
    }

    private static void Take(KvCacheConfig to, KvCacheConfig from)
    {
        foreach (KvConfigurationKey key in KvConfigurationKeys.All.Where(key => key.IsLive))
        {
            key.Write(to, key.Read(from));
        }
    }
}
