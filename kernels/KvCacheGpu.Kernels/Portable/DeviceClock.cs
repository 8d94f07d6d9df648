using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Kernels;

/// <summary>Times stretches of a stream's work. Nothing waits for the device: a mark is enqueued, and read when the device has come to it.</summary>
internal interface IDeviceClock
{
    /// <summary>Enqueues a mark.</summary>
    nint Mark(AcceleratorStream stream);

    /// <summary>Milliseconds between two marks of one stream, which are free then; null while the device has not come to the second.</summary>
    float? Between(nint start, nint end);
}

/// <summary>The clock of a CUDA device: events. The device's context is current on the thread that calls.</summary>
internal sealed class CudaClock : IDeviceClock, IDisposable
{
    private readonly List<nint> _made = [];
    private readonly Stack<nint> _free = new();

    public nint Mark(AcceleratorStream stream)
    {
        if (!_free.TryPop(out nint mark))
        {
            mark = CudaDriver.Current.CreateEvent(isTimed: true);
            _made.Add(mark);
        }

        CudaDriver.Current.Record(mark, ((CudaStream)stream).StreamPtr);
        return mark;
    }

    public float? Between(nint start, nint end)
    {
        if (!CudaDriver.Current.HasHappened(end))
        {
            return null;
        }

        _free.Push(start);
        _free.Push(end);
        return CudaDriver.Current.Elapsed(start, end);
    }

    public void Dispose() => _made.ForEach(CudaDriver.Current.DestroyEvent);
}
