using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;
using KvCacheGpu.Kernels;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.GpuCheck;

/// <summary>A device with what makes its tiers. Tiers of one target share its accelerator, so that each kernel is compiled once.</summary>
internal sealed class CheckTarget : IDisposable
{
    private readonly Func<KernelShape, long, KernelTier> _create;
    private readonly Func<KernelShape, long, KernelTier> _createForCases;
    private readonly IDisposable? _owner;

    /// <summary>Opens a device.</summary>
    public CheckTarget(KvDeviceInfo device)
    {
        Device = device;
        if (device.Kind == KvDeviceKind.Cpu)
        {
            _create = (shape, bytes) => KvDevice.CreateTier(device, shape, bytes);
            _createForCases = _create;
        }
        else
        {
            (Accelerator accelerator, _owner) = KvDevice.Open(device);
            Accelerator = accelerator;
            _create = (shape, bytes) => CudaTier.Create(accelerator, shape, bytes);
            _createForCases = (shape, bytes) => SplittingTier.AsHosts(accelerator, shape, bytes);
        }
    }

    /// <summary>A tier of a test's own, named as a device.</summary>
    public CheckTarget(KvDeviceInfo device, Func<KernelShape, long, KernelTier> create) =>
        (Device, _create, _createForCases) = (device, create, create);

    public KvDeviceInfo Device { get; }

    /// <summary>Null where the tier works in host memory.</summary>
    public Accelerator? Accelerator { get; }

    /// <summary>An emulator runs a few small cases; everything else all of them.</summary>
    public bool IsEmulator => Device.Kind == KvDeviceKind.Emulator;

    public bool IsGpu => Device.IsGpu;

    /// <summary>True if device code runs on the host's processor, by an emulator or by a CUDA driver for tests: its times mean nothing.</summary>
    public bool IsEmulated => IsEmulator || (Accelerator is CudaAccelerator && DriverCounters.Count);

    public string ComputeCapability => Accelerator is CudaAccelerator cuda ? $"{cuda.Architecture.Major}.{cuda.Architecture.Minor}" : string.Empty;

    public int Multiprocessors => Accelerator?.NumMultiprocessors ?? 0;

    /// <summary>The driver's own version where the system tells it, and the CUDA version that it speaks.</summary>
    public string Driver => Accelerator is CudaAccelerator cuda ? $"{KernelModule()}CUDA {cuda.DriverVersion.Major}.{cuda.DriverVersion.Minor}" : string.Empty;

    /// <summary>A tier as hosts get it.</summary>
    public KernelTier CreateTier(KernelShape shape, long arenaBytes) => _create(shape, arenaBytes);

    /// <summary>The same for conformance cases.</summary>
    public KernelTier CreateTierForCases(KernelShape shape, long arenaBytes) => _createForCases(shape, arenaBytes);

    public void Dispose() => _owner?.Dispose();

    private static string KernelModule()
    {
        const string Path = "/proc/driver/nvidia/version";
        try
        {
            // "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue ..."
            string line = File.ReadLines(Path).First();
            return line.Split(' ', StringSplitOptions.RemoveEmptyEntries).FirstOrDefault(w => w.Length > 3 && w.Contains('.') && char.IsDigit(w[0])) is { } version
                ? version + ", "
                : string.Empty;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidOperationException)
        {
            return string.Empty;
        }
    }
}
