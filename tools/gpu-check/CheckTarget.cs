using ILGPU.Runtime.Cuda;
using KvCacheGpu.Kernels;
using KvCacheGpu.Measuring;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.GpuCheck;

/// <summary>A device with what makes the tiers of its checks.</summary>
internal sealed class CheckTarget : MeasuredDevice
{
    // ILGPU holds a kernel that it has compiled as long as somebody else holds its launcher: the tiers of cases do, and the next case launches the same kernel.
    private readonly List<KernelTier> _kept = [];

    /// <summary>Opens a device.</summary>
    public CheckTarget(KvDeviceInfo device)
        : base(device)
    {
    }

    /// <summary>A tier of a test's own, named as a device.</summary>
    public CheckTarget(KvDeviceInfo device, Func<KernelShape, long, KernelTier> create)
        : base(device, create)
    {
    }

    public string ComputeCapability => Accelerator is CudaAccelerator cuda ? $"{cuda.Architecture.Major}.{cuda.Architecture.Minor}" : string.Empty;

    public int Multiprocessors => Accelerator?.NumMultiprocessors ?? 0;

    /// <summary>The driver's own version where the system tells it, and the CUDA version that it speaks.</summary>
    public string Driver => Accelerator is CudaAccelerator cuda ? $"{KernelModule()}CUDA {cuda.DriverVersion.Major}.{cuda.DriverVersion.Minor}" : string.Empty;

    /// <summary>A tier for conformance cases: on an accelerator one that splits rows early, and that compiles what the case launches.</summary>
    public KernelTier CreateTierForCases(KernelShape shape, long arenaBytes)
    {
        if (Accelerator is not { } accelerator)
        {
            return CreateTier(shape, arenaBytes);
        }

        KernelTier tier = SplittingTier.OnDemand(accelerator, shape, arenaBytes);
        _kept.Add(tier);
        return tier;
    }

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
