using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.Measuring;

/// <summary>A device whose kernels are measured. Its tiers share its accelerator, so that each kernel is compiled once.</summary>
internal class MeasuredDevice : IDisposable
{
    private readonly Func<KernelShape, long, KernelTier> _create;
    private readonly IDisposable? _owner;

    /// <summary>Opens a device.</summary>
    /// <exception cref="KvUnsupportedException">E009: it is not usable, or gone.</exception>
    public MeasuredDevice(KvDeviceInfo device)
    {
        Device = device;
        if (device.Kind == KvDeviceKind.Cpu)
        {
            _create = (shape, bytes) => KvDevice.CreateTier(device, shape, bytes);
            return;
        }

        (Accelerator accelerator, _owner) = KvDevice.Open(device);
        Accelerator = accelerator;
        _create = (shape, bytes) => CudaTier.Create(accelerator, shape, bytes);
    }

    /// <summary>A tier of a test's own, named as a device.</summary>
    public MeasuredDevice(KvDeviceInfo device, Func<KernelShape, long, KernelTier> create) => (Device, _create) = (device, create);

    public KvDeviceInfo Device { get; }

    /// <summary>Null where the tier works in host memory.</summary>
    public Accelerator? Accelerator { get; }

    /// <summary>An emulator runs a few small cases; everything else all of them.</summary>
    public bool IsEmulator => Device.Kind == KvDeviceKind.Emulator;

    public bool IsGpu => Device.IsGpu;

    /// <summary>True if device code runs on the host's processor, by an emulator or by a CUDA driver for tests: its times mean nothing.</summary>
    public bool IsEmulated => IsEmulator || (Accelerator is CudaAccelerator && DriverCounters.Count);

    /// <summary>The name of the tier that hosts get.</summary>
    public string TierName
    {
        get
        {
            // A shape that every tier runs as fast as it can.
            var geometry = new KvGeometry(1, 1, 1, 64);
            var layout = new PageLayout(geometry, PageFormat.F16, PageFormat.F16);
            var shape = new KernelShape(geometry, layout, layout, 1, 1, 1);
            using KernelTier tier = CreateTier(shape, new TableMap(shape).Bytes + layout.Bytes);
            return tier.Name;
        }
    }

    /// <summary>A tier as hosts get it.</summary>
    public KernelTier CreateTier(KernelShape shape, long arenaBytes) => _create(shape, arenaBytes);

    public void Dispose() => _owner?.Dispose();
}
