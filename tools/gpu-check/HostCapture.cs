using System.Runtime.InteropServices;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.GpuCheck;

/// <summary>A host's own capture of its stream, by calls of the driver.</summary>
internal static unsafe class HostCapture
{
    private const int Relaxed = 2;
    private static readonly nint _library = NativeLibrary.Load(OperatingSystem.IsWindows() ? "nvcuda.dll" : "libcuda.so.1");

    /// <summary>Begins to capture a stream.</summary>
    public static void Begin(nint stream) =>
        ThrowIfFailed(((delegate* unmanaged<nint, int, int>)NativeLibrary.GetExport(_library, "cuStreamBeginCapture_v2"))(stream, Relaxed));

    /// <summary>Ends it, and instantiates the graph.</summary>
    public static nint End(nint stream)
    {
        nint graph, made;
        ThrowIfFailed(((delegate* unmanaged<nint, nint*, int>)NativeLibrary.GetExport(_library, "cuStreamEndCapture"))(stream, &graph));
        ThrowIfFailed(((delegate* unmanaged<nint*, nint, ulong, int>)NativeLibrary.GetExport(_library, "cuGraphInstantiateWithFlags"))(&made, graph, 0));
        return made;
    }

    private static void ThrowIfFailed(int error)
    {
        if (error != 0)
        {
            throw new CudaException((CudaError)error);
        }
    }
}
