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
        try
        {
            return new KvCudaInfo(version, true, CudaDriver.Current.IsPrimaryContextActive(device.DeviceId), DeviceCompiler.CanKeepMemoryOrder);
        }
        catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException)
        {
            return new KvCudaInfo(version, false, false, DeviceCompiler.CanKeepMemoryOrder);
        }
    }

    /// <summary>Why a CUDA device cannot run the kernels; empty where it can.</summary>
    /// <param name="isKnown">True if ILGPU knows its architecture and its driver.</param>
    /// <param name="cuda">What else is known.</param>
    public static string Refusal(bool isKnown, KvCudaInfo cuda) => !isKnown
        ? "its architecture or driver is unknown to ILGPU"
        : !cuda.HasStreamCalls ? $"its driver (CUDA {cuda.DriverVersion}) lacks calls for events, streams and primary contexts"
        : cuda.KeepsMemoryOrder ? string.Empty : "this ILGPU may compile kernels wrongly; use ILGPU 1.5.3";
}
