using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>Creation on a device.</content>
public sealed partial class KvCache
{
    /// <summary>Makes a cache and reserves its memory on the configuration's device.</summary>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="config">Settings; null takes the defaults.</param>
    /// <exception cref="KvConfigurationException">E003: a setting is out of range, does not fit the geometry, or the budget is below the minimum that it names.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: the device does not have the memory.</exception>
    public KvCache(KvGeometry geometry, KvCacheConfig? config = null)
        : this(geometry, config, (shape, arenaBytes, observer) => new SimdTier(shape, arenaBytes, SimdLevel.Auto, 0, observer))
    {
    }
}
