using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>From keys to the settings of a cache.</content>
public sealed partial class KvCacheConfig
{
    /// <summary>
    /// What a <see cref="KvCache"/> is made with so that the keys are in force: what <see cref="UltraAdaptiveKvCacheEngine"/> does, for hosts that
    /// go layer by layer through a model. This configuration stays as it is.
    /// </summary>
    /// <param name="geometry">The model's shape.</param>
    /// <exception cref="KvConfigurationException">E003: a key is refused.</exception>
    public KvCacheConfig Resolve(KvGeometry geometry)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        if (Validate(geometry).Issues is [KvConfigurationIssue first, ..])
        {
            throw new KvConfigurationException(first.Key, first.Expected, first.Actual);
        }

        return EngineSettings.Resolve(this, geometry);
    }
}
