using System.Runtime.InteropServices;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Kernels;

/// <summary>
/// The calls of the CUDA driver that ILGPU 1.5.3 has no way to: events across streams, graphs, facts about pointers and streams, primary contexts. Found in
/// the driver's library when the first of them is made, so that a machine without one loads nothing.
/// </summary>
/// <remarks>Names and numbers: NVIDIA, CUDA Driver API. All but the calls on contexts and devices work in the context that is current on the thread.</remarks>
internal sealed unsafe class CudaDriver
{
    private const int NotReady = 600;

    // Attributes of pointers, and the memory type of a device.
    private const int Context = 1;
    private const int MemoryType = 2;
    private const int IsManaged = 8;
    private const int DeviceOrdinal = 9;
    private const int RangeStart = 11;
    private const int RangeSize = 12;
    private const int DeviceMemory = 2;
    private const uint WithoutTiming = 2;

    // Of captures: what a thread that captures must not do is refused to it alone; a stream's capture that goes on.
    private const int ThreadLocal = 1;
    private const int Active = 1;
    private static readonly Lazy<CudaDriver> _driver = new(() => new CudaDriver());

    private readonly delegate* unmanaged<nint*, uint, int> _eventCreate;
    private readonly delegate* unmanaged<nint, int> _eventDestroy;
    private readonly delegate* unmanaged<nint, nint, int> _eventRecord;
    private readonly delegate* unmanaged<nint, int> _eventQuery;
    private readonly delegate* unmanaged<nint, int> _eventSynchronize;
    private readonly delegate* unmanaged<float*, nint, nint, int> _eventElapsed;
    private readonly delegate* unmanaged<nint, nint, uint, int> _streamWaitEvent;
    private readonly delegate* unmanaged<nint, nint*, int> _streamGetContext;
    private readonly delegate* unmanaged<void*, int, nint, int> _pointerGetAttribute;
    private readonly delegate* unmanaged<nint*, int, int> _primaryRetain;
    private readonly delegate* unmanaged<int, int> _primaryRelease;
    private readonly delegate* unmanaged<int, uint*, int*, int> _primaryGetState;
    private readonly delegate* unmanaged<nint*, int> _contextGetCurrent;
    private readonly delegate* unmanaged<nint, int> _contextSetCurrent;
    private readonly delegate* unmanaged<nint*, uint, int, int> _contextCreate;
    private readonly delegate* unmanaged<nint, int> _contextDestroy;
    private readonly delegate* unmanaged<int*, int> _contextGetDevice;
    private readonly delegate* unmanaged<nint, int*, int> _streamIsCapturing;
    private readonly delegate* unmanaged<nint, int, int> _streamBeginCapture;
    private readonly delegate* unmanaged<nint, nint*, int> _streamEndCapture;
    private readonly delegate* unmanaged<nint*, nint, ulong, int> _graphInstantiate;
    private readonly delegate* unmanaged<nint, nint, int> _graphLaunch;
    private readonly delegate* unmanaged<nint, int> _graphDestroy;
    private readonly delegate* unmanaged<nint, int> _graphExecDestroy;

    private CudaDriver()
    {
        nint library = NativeLibrary.Load(OperatingSystem.IsWindows() ? "nvcuda.dll" : "libcuda.so.1");
        _eventCreate = (delegate* unmanaged<nint*, uint, int>)NativeLibrary.GetExport(library, "cuEventCreate");
        _eventDestroy = (delegate* unmanaged<nint, int>)NativeLibrary.GetExport(library, "cuEventDestroy_v2");
        _eventRecord = (delegate* unmanaged<nint, nint, int>)NativeLibrary.GetExport(library, "cuEventRecord");
        _eventQuery = (delegate* unmanaged<nint, int>)NativeLibrary.GetExport(library, "cuEventQuery");
        _eventSynchronize = (delegate* unmanaged<nint, int>)NativeLibrary.GetExport(library, "cuEventSynchronize");
        _eventElapsed = (delegate* unmanaged<float*, nint, nint, int>)NativeLibrary.GetExport(library, "cuEventElapsedTime");
        _streamWaitEvent = (delegate* unmanaged<nint, nint, uint, int>)NativeLibrary.GetExport(library, "cuStreamWaitEvent");
        _streamGetContext = (delegate* unmanaged<nint, nint*, int>)NativeLibrary.GetExport(library, "cuStreamGetCtx");
        _pointerGetAttribute = (delegate* unmanaged<void*, int, nint, int>)NativeLibrary.GetExport(library, "cuPointerGetAttribute");
        _primaryRetain = (delegate* unmanaged<nint*, int, int>)NativeLibrary.GetExport(library, "cuDevicePrimaryCtxRetain");
        _primaryRelease = (delegate* unmanaged<int, int>)NativeLibrary.GetExport(library, "cuDevicePrimaryCtxRelease_v2");
        _primaryGetState = (delegate* unmanaged<int, uint*, int*, int>)NativeLibrary.GetExport(library, "cuDevicePrimaryCtxGetState");
        _contextGetCurrent = (delegate* unmanaged<nint*, int>)NativeLibrary.GetExport(library, "cuCtxGetCurrent");
        _contextSetCurrent = (delegate* unmanaged<nint, int>)NativeLibrary.GetExport(library, "cuCtxSetCurrent");
        _contextCreate = (delegate* unmanaged<nint*, uint, int, int>)NativeLibrary.GetExport(library, "cuCtxCreate_v2");
        _contextDestroy = (delegate* unmanaged<nint, int>)NativeLibrary.GetExport(library, "cuCtxDestroy_v2");
        _contextGetDevice = (delegate* unmanaged<int*, int>)NativeLibrary.GetExport(library, "cuCtxGetDevice");
        _streamIsCapturing = (delegate* unmanaged<nint, int*, int>)NativeLibrary.GetExport(library, "cuStreamIsCapturing");
        _streamBeginCapture = (delegate* unmanaged<nint, int, int>)NativeLibrary.GetExport(library, "cuStreamBeginCapture_v2");
        _streamEndCapture = (delegate* unmanaged<nint, nint*, int>)NativeLibrary.GetExport(library, "cuStreamEndCapture");
        _graphInstantiate = (delegate* unmanaged<nint*, nint, ulong, int>)NativeLibrary.GetExport(library, "cuGraphInstantiateWithFlags");
        _graphLaunch = (delegate* unmanaged<nint, nint, int>)NativeLibrary.GetExport(library, "cuGraphLaunch");
        _graphDestroy = (delegate* unmanaged<nint, int>)NativeLibrary.GetExport(library, "cuGraphDestroy");
        _graphExecDestroy = (delegate* unmanaged<nint, int>)NativeLibrary.GetExport(library, "cuGraphExecDestroy");
    }

    /// <summary>What the driver's library offers.</summary>
    /// <exception cref="DllNotFoundException">This machine has no CUDA driver.</exception>
    public static CudaDriver Current => _driver.Value;

    /// <summary>Makes an event; one that takes times costs the device more.</summary>
    public nint CreateEvent(bool isTimed = false)
    {
        nint made;
        ThrowIfFailed(_eventCreate(&made, isTimed ? 0 : WithoutTiming));
        return made;
    }

    /// <summary>Milliseconds from one event that takes times to another; both have happened.</summary>
    public float Elapsed(nint start, nint end)
    {
        float milliseconds;
        ThrowIfFailed(_eventElapsed(&milliseconds, start, end));
        return milliseconds;
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

    /// <summary>True if what is enqueued on a stream becomes part of a graph and does not run. Also true of a capture that was broken off.</summary>
    public bool IsCaptured(nint stream) => CaptureStatus(stream) != 0;

    /// <summary>True if a capture of a stream is under way and was not broken off.</summary>
    public bool IsCapturing(nint stream) => CaptureStatus(stream) == Active;

    /// <summary>Begins to capture a stream; the same thread ends it. The driver refuses to this thread what no graph can hold.</summary>
    public void BeginCapture(nint stream) => ThrowIfFailed(_streamBeginCapture(stream, ThreadLocal));

    /// <summary>Ends a capture, and makes a graph that <see cref="LaunchGraph"/> takes.</summary>
    /// <exception cref="CudaException">It was broken off.</exception>
    public nint EndCapture(nint stream)
    {
        nint graph, made;
        ThrowIfFailed(_streamEndCapture(stream, &graph));
        int error = _graphInstantiate(&made, graph, 0);
        _ = _graphDestroy(graph);
        ThrowIfFailed(error);
        return made;
    }

    /// <summary>Ends a capture of which nothing is wanted.</summary>
    public void AbandonCapture(nint stream)
    {
        nint graph = 0;
        if (_streamEndCapture(stream, &graph) == 0 && graph != 0)
        {
            _ = _graphDestroy(graph);
        }
    }

    /// <summary>Enqueues all work of a graph.</summary>
    public void LaunchGraph(nint graph, nint stream) => ThrowIfFailed(_graphLaunch(graph, stream));

    /// <summary>Destroys what <see cref="EndCapture"/> made; launches that are under way go on.</summary>
    public void DestroyGraph(nint graph) => ThrowIfFailed(_graphExecDestroy(graph));

    /// <summary>The context that is current on this thread, or 0.</summary>
    public nint CurrentContext
    {
        get
        {
            nint context;
            ThrowIfFailed(_contextGetCurrent(&context));
            return context;
        }
    }

    /// <summary>Makes a context the current one of this thread; 0 leaves the thread without one.</summary>
    public void SetCurrentContext(nint context) => ThrowIfFailed(_contextSetCurrent(context));

    /// <summary>Makes a context, and makes it current on this thread.</summary>
    public nint CreateContext(int device)
    {
        nint context;
        ThrowIfFailed(_contextCreate(&context, 0, device));
        return context;
    }

    /// <summary>Makes current again what was current before; a context that has been destroyed meanwhile leaves the thread without one.</summary>
    public void RestoreContext(nint context)
    {
        if (_contextSetCurrent(context) != 0)
        {
            ThrowIfFailed(_contextSetCurrent(0));
        }
    }

    /// <summary>Destroys a context that <see cref="CreateContext"/> or ILGPU made. If it was current, the one that was current before it is again.</summary>
    public void DestroyContext(nint context) => ThrowIfFailed(_contextDestroy(context));

    /// <summary>Takes a device's primary context, the one of torch and of the CUDA runtime. It lives until all who took it have released it.</summary>
    /// <param name="device">Ordinal of the device.</param>
    public nint RetainPrimaryContext(int device)
    {
        nint context;
        ThrowIfFailed(_primaryRetain(&context, device));
        return context;
    }

    /// <summary>Gives a device's primary context back, once for each <see cref="RetainPrimaryContext"/>.</summary>
    public void ReleasePrimaryContext(int device) => ThrowIfFailed(_primaryRelease(device));

    /// <summary>True if somebody in this process holds the device's primary context.</summary>
    public bool IsPrimaryContextActive(int device)
    {
        uint flags;
        int active;
        ThrowIfFailed(_primaryGetState(device, &flags, &active));
        return active != 0;
    }

    /// <summary>
    /// Refuses an address at which work of a context cannot read or write so many bytes. Let in is memory of the context itself; of its device, where the memory belongs to no
    /// context (pools, and address ranges that are mapped by hand, as torch's expandable segments are); and managed memory, which every device reaches.
    /// </summary>
    /// <remarks>
    /// Page-locked host memory is not let in, though a kernel could reach it: each access would cross the bus. The size is that of the allocation, or of the reserved range
    /// that it was mapped into. The context is current on the thread.
    /// </remarks>
    /// <exception cref="ArgumentException">It is not, or its allocation ends before.</exception>
    public void ThrowIfNotReachable(nint context, nint address, long bytes, string name)
    {
        long owner = 0, type = 0, managed = 0, ordinal = 0, start = 0, size = 0;
        if (_pointerGetAttribute(&type, MemoryType, address) != 0)
        {
            throw new ArgumentException(
                $"{name}: expected memory of the cache's device, got {address:x}, which the driver does not know: it is host memory (pass it as a host tensor), or was freed", name);
        }

        bool isManaged = _pointerGetAttribute(&managed, IsManaged, address) == 0 && (int)managed != 0;
        if (!isManaged && (int)type != DeviceMemory)
        {
            throw new ArgumentException($"{name}: expected memory of the cache's device, got {address:x}, which is host memory: pass it as a host tensor", name);
        }

        _ = _pointerGetAttribute(&owner, Context, address);
        bool isOurs = isManaged || (owner != 0 ? (nint)owner == context : _pointerGetAttribute(&ordinal, DeviceOrdinal, address) == 0 && (int)ordinal == CurrentDevice());
        if (!isOurs)
        {
            throw new ArgumentException($"{name}: expected memory of the cache's CUDA context, {context:x}, got {address:x}, which is of another device or context, {owner:x}", name);
        }

        if (_pointerGetAttribute(&start, RangeStart, address) != 0 || _pointerGetAttribute(&size, RangeSize, address) != 0)
        {
            throw new ArgumentException($"{name}: expected memory whose size the driver knows, got {address:x}", name);
        }

        if (bytes > start + size - address)
        {
            throw new ArgumentException($"{name}: expected {bytes} bytes from {address:x} on, got memory that ends after {start + size - address}", name);
        }
    }

    private int CaptureStatus(nint stream)
    {
        int status;
        ThrowIfFailed(_streamIsCapturing(stream, &status));
        return status;
    }

    private int CurrentDevice()
    {
        int device;
        ThrowIfFailed(_contextGetDevice(&device));
        return device;
    }

    private static void ThrowIfFailed(int error)
    {
        if (error != 0)
        {
            throw new CudaException((CudaError)error);
        }
    }
}
