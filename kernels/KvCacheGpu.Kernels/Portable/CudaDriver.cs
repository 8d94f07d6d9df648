using System.Runtime.InteropServices;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Kernels;

/// <summary>
/// The calls of the CUDA driver that ILGPU 1.5.3 has no way to: events across streams, facts about pointers and streams, primary contexts. Found in
/// the driver's library when the first of them is made, so that a machine without one loads nothing.
/// </summary>
/// <remarks>Names and numbers: NVIDIA, CUDA Driver API. All but the facts about a device work in the context that is current on the thread.</remarks>
internal sealed unsafe class CudaDriver
{
    private const int NotReady = 600;
    private const uint WithoutTiming = 2;
    private static readonly Lazy<CudaDriver> _driver = new(() => new CudaDriver());

    private readonly delegate* unmanaged<nint*, uint, int> _eventCreate;
    private readonly delegate* unmanaged<nint, int> _eventDestroy;
    private readonly delegate* unmanaged<nint, nint, int> _eventRecord;
    private readonly delegate* unmanaged<nint, int> _eventQuery;
    private readonly delegate* unmanaged<nint, int> _eventSynchronize;
    private readonly delegate* unmanaged<nint, nint, uint, int> _streamWaitEvent;
    private readonly delegate* unmanaged<nint, nint*, int> _streamGetContext;
    private readonly delegate* unmanaged<void*, int, nint, int> _pointerGetAttribute;
    private readonly delegate* unmanaged<nint*, int> _contextGet;
    private readonly delegate* unmanaged<nint, int> _contextSet;

    private CudaDriver()
    {
        nint library = NativeLibrary.Load(OperatingSystem.IsWindows() ? "nvcuda.dll" : "libcuda.so.1");
        _eventCreate = (delegate* unmanaged<nint*, uint, int>)NativeLibrary.GetExport(library, "cuEventCreate");
        _eventDestroy = (delegate* unmanaged<nint, int>)NativeLibrary.GetExport(library, "cuEventDestroy_v2");
        _eventRecord = (delegate* unmanaged<nint, nint, int>)NativeLibrary.GetExport(library, "cuEventRecord");
        _eventQuery = (delegate* unmanaged<nint, int>)NativeLibrary.GetExport(library, "cuEventQuery");
        _eventSynchronize = (delegate* unmanaged<nint, int>)NativeLibrary.GetExport(library, "cuEventSynchronize");
        _streamWaitEvent = (delegate* unmanaged<nint, nint, uint, int>)NativeLibrary.GetExport(library, "cuStreamWaitEvent");
        _streamGetContext = (delegate* unmanaged<nint, nint*, int>)NativeLibrary.GetExport(library, "cuStreamGetCtx");
        _pointerGetAttribute = (delegate* unmanaged<void*, int, nint, int>)NativeLibrary.GetExport(library, "cuPointerGetAttribute");
        _contextGet = (delegate* unmanaged<nint*, int>)NativeLibrary.GetExport(library, "cuCtxGetCurrent");
        _contextSet = (delegate* unmanaged<nint, int>)NativeLibrary.GetExport(library, "cuCtxSetCurrent");
    }

    /// <summary>What the driver's library offers.</summary>
    /// <exception cref="DllNotFoundException">This machine has no CUDA driver.</exception>
    public static CudaDriver Current => _driver.Value;

    /// <summary>The context that is current on this thread; 0 if none is.</summary>
    public nint CurrentContext
    {
        get
        {
            nint context;
            ThrowIfFailed(_contextGet(&context));
            return context;
        }

        set => ThrowIfFailed(_contextSet(value));
    }

    /// <summary>Makes an event that takes no times.</summary>
    public nint CreateEvent()
    {
        nint made;
        ThrowIfFailed(_eventCreate(&made, WithoutTiming));
        return made;
    }

    /// <summary>Destroys an event; work that waits for it goes on to do so.</summary>
    public void DestroyEvent(nint cudaEvent) => ThrowIfFailed(_eventDestroy(cudaEvent));

    /// <summary>Enqueues an event: it has happened once all that was enqueued on the stream before it has ended.</summary>
    public void Record(nint cudaEvent, nint stream) => ThrowIfFailed(_eventRecord(cudaEvent, stream));

    /// <summary>True if the event has happened. Does not wait.</summary>
    public bool HasHappened(nint cudaEvent)
    {
        int error = _eventQuery(cudaEvent);
        if (error != NotReady)
        {
            ThrowIfFailed(error);
        }

        return error != NotReady;
    }

    /// <summary>Waits on this thread until the event has happened.</summary>
    public void WaitFor(nint cudaEvent) => ThrowIfFailed(_eventSynchronize(cudaEvent));

    /// <summary>Makes what is enqueued on a stream from now on wait on the device until the event has happened.</summary>
    public void Wait(nint stream, nint cudaEvent) => ThrowIfFailed(_streamWaitEvent(stream, cudaEvent, 0));

    /// <summary>The context that a stream is of.</summary>
    /// <exception cref="CudaException">It is no live stream.</exception>
    public nint ContextOf(nint stream)
    {
        nint context;
        ThrowIfFailed(_streamGetContext(stream, &context));
        return context;
    }

    private static void ThrowIfFailed(int error)
    {
        if (error != 0)
        {
            throw new CudaException((CudaError)error);
        }
    }
}
