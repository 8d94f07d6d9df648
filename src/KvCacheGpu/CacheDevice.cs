using ILGPU.Runtime;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// The device that a cache is made on. An accelerator of the library's own is made with the first tier, serves all tiers of the cache, so that kernels are compiled
/// once, and is disposed here; one of the host's is borrowed.
/// </summary>
internal sealed class CacheDevice : IDisposable
{
    // Scratch of threads beyond the first takes at most this part of the dense F16 bytes, whatever the budget is: so the least budget is the same on
    // any number of cores.
    private const int PartOfScratch = 128;

    private readonly KvGeometry _geometry;
    private readonly KvCacheOptions _options;
    private Accelerator? _accelerator;
    private IDisposable? _owned;

    private CacheDevice(KvDeviceInfo info, KvGeometry geometry, KvCacheOptions options, Accelerator? borrowed) =>
        (Info, _geometry, _options, _accelerator) = (info, geometry, options, borrowed);

    /// <summary>What it is.</summary>
    public KvDeviceInfo Info { get; }

    /// <summary>The device that the options name.</summary>
    /// <exception cref="KvConfigurationException">E003: no name.</exception>
    /// <exception cref="KvUnsupportedException">E009: this machine has no such device, or it cannot run the kernels.</exception>
    public static CacheDevice Of(KvGeometry geometry, KvCacheOptions options) => string.IsNullOrWhiteSpace(options.Device)
        ? throw new KvConfigurationException(nameof(KvCacheOptions.Device), "a device's name", $"'{options.Device}'")
        : new CacheDevice(KvDevice.Resolve(options.Device), geometry, options, null);

    /// <summary>The device of a host's accelerator.</summary>
    /// <exception cref="ObjectDisposedException">The accelerator was disposed.</exception>
    /// <exception cref="KvConfigurationException">E003: the options name another device.</exception>
    /// <exception cref="KvUnsupportedException">E009: it cannot run the kernels.</exception>
    public static CacheDevice Of(KvGeometry geometry, KvCacheOptions options, Accelerator accelerator)
    {
        KvDeviceInfo info = KvDevice.Describe(accelerator);
        string name = options.Device is "cuda" or "opencl" ? options.Device + ":0" : options.Device;
        return name == "auto" || name == info.Id
            ? new CacheDevice(info, geometry, options, accelerator)
            : throw new KvConfigurationException(nameof(KvCacheOptions.Device), $"'auto' or '{info.Id}', the device of the accelerator that was given", $"'{options.Device}'");
    }

    /// <summary>Makes a tier. Each thread of the host has scratch of its own: in a small cache all cores' would crowd out the pages.</summary>
    public KernelTier CreateTier(KernelShape shape, long arenaBytes, AllocationObserver? observer)
    {
        if (Info.Kind == KvDeviceKind.Cpu)
        {
            int threads = SimdTier.ThreadsWithin(shape, _options.MaxBatchTokens, _geometry.DenseF16Bytes(_options.MaxTokens) / PartOfScratch);
            return KvDevice.CreateTier(Info, shape, arenaBytes, observer, threads);
        }

        if (_accelerator is null)
        {
            (_accelerator, _owned) = KvDevice.Open(Info);
        }

        return KvDevice.CreateTier(_accelerator, Info, shape, arenaBytes, observer);
    }

    /// <summary>Disposes the library's own accelerator, after its tiers.</summary>
    public void Dispose() => _owned?.Dispose();
}
