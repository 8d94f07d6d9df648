namespace KvCacheGpu;

/// <summary>The kind of hardware that runs a cache's kernels.</summary>
public enum KvDeviceKind
{
    /// <summary>The host's own SIMD units.</summary>
    Cpu,

    /// <summary>An NVIDIA GPU.</summary>
    Cuda,

    /// <summary>An OpenCL device with the generic address space.</summary>
    OpenCl,

    /// <summary>ILGPU's emulator of a device: for tests of the device code, hundreds of times slower than <see cref="Cpu"/>.</summary>
    Emulator,
}

/// <summary>A device that a cache can live on, or why it cannot.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Id">The name that configurations use: "cpu", "cuda:0", "opencl:1", "ilgpu-cpu".</param>
/// <param name="Kind">The kind of hardware.</param>
/// <param name="Name">The device's own name.</param>
/// <param name="MemoryBytes">Its memory in bytes; for devices of the host, the host's.</param>
/// <param name="Usable">True if a cache can be created on it.</param>
/// <param name="Reason">Why it is not usable, or what a user should know; else empty.</param>
public sealed record KvDeviceInfo(string Id, KvDeviceKind Kind, string Name, long MemoryBytes, bool Usable, string Reason)
{
    /// <summary>True if "auto" may choose it: an OpenCL runtime on a CPU is slower than the host's own SIMD tier.</summary>
    internal bool IsGpu { get; init; }
}
