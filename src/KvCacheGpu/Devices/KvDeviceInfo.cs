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
    /// <summary>What the CUDA driver offers for the device; null if it is not a CUDA device, or one of a host's own accelerator.</summary>
    public KvCudaInfo? Cuda { get; init; }

    /// <summary>True if "auto" may choose it: an OpenCL runtime on a CPU is slower than the host's own SIMD tier.</summary>
    internal bool IsGpu { get; init; }
}

/// <summary>A CUDA device as its driver describes it.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="DriverVersion">The version of CUDA that the driver speaks: "12.4".</param>
/// <param name="HasStreamCalls">True if the driver has the calls for events, streams and primary contexts that ILGPU lacks.</param>
/// <param name="IsPrimaryContextActive">True if something in this process held the device's primary context when this was found out: torch, the CUDA runtime, or a cache.</param>
/// <param name="KeepsMemoryOrder">True if ILGPU's compiler could be set so that it keeps the order of loads and stores.</param>
public sealed record KvCudaInfo(string DriverVersion, bool HasStreamCalls, bool IsPrimaryContextActive, bool KeepsMemoryOrder)
{
    /// <summary>What attention its tensor cores run; null if the portable kernels run all of it, as before sm_80.</summary>
    public KvTensorCoreInfo? TensorCores { get; init; }
}

/// <summary>The pages that tensor cores attend. Pages of other formats, widths or sizes are attended by the portable kernels, to the same error bound.</summary>
/// <remarks>Thread safety: it never changes.</remarks>
/// <param name="Pairs">Formats of keys and values: "f16/f16".</param>
/// <param name="HeadWidths">Head widths of keys and values, or of keys/values if these differ: "128", "576/512".</param>
/// <param name="PageTokens">Tokens of a page.</param>
public sealed record KvTensorCoreInfo(IReadOnlyList<string> Pairs, IReadOnlyList<string> HeadWidths, IReadOnlyList<int> PageTokens);
