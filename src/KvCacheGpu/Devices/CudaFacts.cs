using ILGPU.Runtime.Cuda;
using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>What there is to know of a CUDA device before something is made on it. Makes no context.</summary>
internal static class CudaFacts
{
    /// <summary>Asks the driver, and ILGPU's compiler.</summary>
    public static KvCudaInfo Of(CudaDevice device)
    {
        string version = $"{device.DriverVersion.Major}.{device.DriverVersion.Minor}";
        KvTensorCoreInfo? tensors = CudaTier.HasTensorCores(device.Architecture, device.InstructionSet) ? TensorCores() : null;
        try
        {
            return new KvCudaInfo(version, true, CudaDriver.Current.IsPrimaryContextActive(device.DeviceId), DeviceCompiler.CanKeepMemoryOrder) { TensorCores = tensors };
        }
        catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException)
        {
            return new KvCudaInfo(version, false, false, DeviceCompiler.CanKeepMemoryOrder) { TensorCores = tensors };
        }
    }

    private static KvTensorCoreInfo TensorCores() => new(
        [.. TensorKernels.Pairs.Select(pair => $"{pair.Key.Name()}/{pair.Value.Name()}")],
        [.. TensorKernels.Widths.Select(width => width.Key == width.Value ? $"{width.Key}" : $"{width.Key}/{width.Value}")],
        TensorKernels.PageTokens);

    /// <summary>Why a CUDA device cannot run the kernels; empty where it can.</summary>
    /// <param name="isKnown">True if ILGPU knows its architecture and its driver.</param>
    /// <param name="cuda">What else is known.</param>
    public static string Refusal(bool isKnown, KvCudaInfo cuda) => !isKnown
        ? "its architecture or driver is unknown to ILGPU"
        : !cuda.HasStreamCalls ? $"its driver (CUDA {cuda.DriverVersion}) lacks calls for events, streams and primary contexts"
        : cuda.KeepsMemoryOrder ? string.Empty : "this ILGPU may compile kernels wrongly; use ILGPU 1.5.3";
}
