namespace KvCacheGpu;

/// <content>Creation on a device.</content>
public sealed partial class KvCache
{
    // Of the dense F16 bytes; scratch of threads beyond the first takes no more, whatever the budget, so that the least one is the same for all.
    private const int PartOfScratch = 128;

    /// <summary>Makes a cache and reserves its memory on the device of the options.</summary>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="options">Options; null takes the defaults.</param>
    /// <exception cref="KvConfigurationException">E003: a setting is out of range, does not fit the geometry, or the budget is below the minimum that it names.</exception>
    /// <exception cref="KvUnsupportedException">E009: this machine has no such device, or it cannot run the kernels.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: the device does not have the memory.</exception>
    public KvCache(Kernels.KvGeometry geometry, KvCacheOptions? options = null)
        : this(geometry, options, DeviceOf(options))
    {
    }

    private KvCache(Kernels.KvGeometry geometry, KvCacheOptions? options, KvDeviceInfo device)
        : this(geometry, options, TiersOn(device, geometry, options), null, device)
    {
    }

    /// <summary>The device that the cache lives on.</summary>
    public KvDeviceInfo Device { get; }

    /// <summary>The device's own name.</summary>
    public string DeviceName => Device.Name;

    // Each thread has scratch of its own: in a small cache all cores' would crowd out the pages.
    private static TierFactory TiersOn(KvDeviceInfo device, Kernels.KvGeometry geometry, KvCacheOptions? options)
    {
        KvCacheOptions settings = options ?? new KvCacheOptions();
        return (shape, arenaBytes, observer) => KvDevice.CreateTier(
            device, shape, arenaBytes, observer, Kernels.SimdTier.ThreadsWithin(shape, settings.MaxBatchTokens, geometry.DenseF16Bytes(settings.MaxTokens) / PartOfScratch));
    }

    private static KvDeviceInfo DeviceOf(KvCacheOptions? options)
    {
        string id = options?.Device ?? "auto";
        return string.IsNullOrWhiteSpace(id)
            ? throw new KvConfigurationException(nameof(KvCacheOptions.Device), "a device's name", $"'{id}'")
            : KvDevice.Resolve(id);
    }
}
