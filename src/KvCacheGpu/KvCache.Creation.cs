namespace KvCacheGpu;

/// <content>Creation on a device.</content>
public sealed partial class KvCache
{
    /// <summary>Makes a cache and reserves its memory on the configuration's device.</summary>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="config">Settings; null takes the defaults.</param>
    /// <exception cref="KvConfigurationException">E003: a setting is out of range, does not fit the geometry, or the budget is below the minimum that it names.</exception>
    /// <exception cref="KvUnsupportedException">E009: this machine has no such device, or it cannot run the kernels.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: the device does not have the memory.</exception>
    public KvCache(Kernels.KvGeometry geometry, KvCacheConfig? config = null)
        : this(geometry, config, DeviceOf(config))
    {
    }

    private KvCache(Kernels.KvGeometry geometry, KvCacheConfig? config, KvDeviceInfo device)
        : this(geometry, config, (shape, arenaBytes, observer) => KvDevice.CreateTier(device, shape, arenaBytes, observer), null, device)
    {
    }

    /// <summary>The device that the cache lives on.</summary>
    public KvDeviceInfo Device { get; }

    /// <summary>The device's own name.</summary>
    public string DeviceName => Device.Name;

    private static KvDeviceInfo DeviceOf(KvCacheConfig? config)
    {
        string id = config?.Device ?? "auto";
        return string.IsNullOrWhiteSpace(id)
            ? throw new KvConfigurationException(nameof(KvCacheConfig.Device), "a device's name", $"'{id}'")
            : KvDevice.Resolve(id);
    }
}
