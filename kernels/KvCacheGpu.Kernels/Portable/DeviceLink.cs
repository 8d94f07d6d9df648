using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Kernels;

/// <summary>
/// A tier's way to its device: memory there, the stream that work is enqueued on, and the copies between pinned host memory and the device.
/// </summary>
internal sealed class DeviceLink : IDisposable
{
    private const int MaxGpuGroup = 128;

    private readonly AllocationObserver? _observer;
    private readonly CudaClock? _clock;

    public DeviceLink(Accelerator accelerator, AllocationObserver? observer)
    {
        (Accelerator, _observer) = (accelerator, observer);
        DeviceCompiler.KeepMemoryOrder(accelerator);
        DeviceBinding.ThrowIfUnknown();
        using DeviceBinding bound = Bind();
        Order = new StreamOrder(accelerator);
        Staging = new Staging(this);
        _clock = accelerator is CudaAccelerator ? new CudaClock() : null;
    }

    public Accelerator Accelerator { get; }

    /// <summary>The order of all work, over all streams.</summary>
    public StreamOrder Order { get; }

    /// <summary>Where integers pass through on their way to the device.</summary>
    public Staging Staging { get; }

    /// <summary>What times the device's work; null where nothing does.</summary>
    public IDeviceClock? Clock => _clock;

    /// <summary>The stream that work is enqueued on.</summary>
    public AcceleratorStream Stream => Order.Current;

    /// <summary>Threads of a group, where nobody chose: a page's tokens in whole warps, and one on the emulator.</summary>
    public static int GroupFor(Accelerator accelerator, int pageTokens)
    {
        int warp = accelerator.AcceleratorType == AcceleratorType.CPU ? 1 : Math.Max(32, accelerator.WarpSize);
        int wanted = accelerator.AcceleratorType == AcceleratorType.CPU ? 1 : (pageTokens + warp - 1) / warp * warp;
        return Math.Min(Math.Min(wanted, MaxGpuGroup), accelerator.MaxNumThreadsPerGroup);
    }

    /// <summary>Makes the device current on this thread, until the result is disposed.</summary>
    /// <exception cref="ObjectDisposedException">The accelerator was disposed.</exception>
    public DeviceBinding Bind() => new(Accelerator);

    /// <summary>Allocates on the device and tells the observer.</summary>
    public MemoryBuffer1D<T, Stride1D.Dense> Allocate<T>(AllocationKind kind, long length)
        where T : unmanaged
    {
        MemoryBuffer1D<T, Stride1D.Dense> buffer = Accelerator.Allocate1D<T>(Math.Max(1, length));
        _observer?.Invoke(kind, buffer.LengthInBytes);
        return buffer;
    }

    /// <summary>Releases memory that <see cref="Allocate"/> gave.</summary>
    public void Release<T>(AllocationKind kind, MemoryBuffer1D<T, Stride1D.Dense> buffer)
        where T : unmanaged
    {
        long bytes = buffer.LengthInBytes;
        buffer.Dispose();
        _observer?.Invoke(kind, -bytes);
    }

    /// <summary>Host memory that the device copies from and to without a detour.</summary>
    public PageLockedArray1D<T> Pin<T>(long length)
        where T : unmanaged => Accelerator.AllocatePageLocked1D<T>(Math.Max(1, length));

    /// <summary>Enqueues a copy to the device; <see cref="WaitFor"/> takes the epoch that it returns.</summary>
    public long Upload<T>(PageLockedArray1D<T> source, long from, ArrayView<T> target, long count)
        where T : unmanaged
    {
        if (Accelerator.AcceleratorType == AcceleratorType.OpenCL)
        {
            // ILGPU 1.5.3 copies as many bytes as the whole host buffer has, whatever the view: only an exact wrapper is safe.
            target.SubView(0, count).CopyFromCPUUnsafeAsync(Stream, ref source.Span[(int)from], count);
        }
        else
        {
            target.SubView(0, count).CopyFrom(Stream, source.ArrayView.SubView(from, count));
        }

        return Order.Count();
    }

    /// <summary>Enqueues a copy to the host; read it after <see cref="WaitFor"/> or <see cref="Synchronize"/>.</summary>
    public void Download<T>(ArrayView<T> source, PageLockedArray1D<T> target, long to, long count)
        where T : unmanaged
    {
        if (Accelerator.AcceleratorType == AcceleratorType.OpenCL)
        {
            source.SubView(0, count).CopyToCPUUnsafeAsync(Stream, ref target.Span[(int)to], count);
        }
        else
        {
            source.SubView(0, count).CopyTo(Stream, target.ArrayView.SubView(to, count));
        }

        Order.Count();
    }

    /// <summary>True if the work of an epoch has ended, as far as can be seen without waiting.</summary>
    public bool HasEnded(long epoch)
    {
        using DeviceBinding bound = Bind();
        return Order.HasEnded(epoch);
    }

    /// <summary>Waits until the work of an epoch has ended.</summary>
    public void WaitFor(long epoch)
    {
        using DeviceBinding bound = Bind();
        Order.WaitFor(epoch);
    }

    /// <summary>Waits for all that was enqueued.</summary>
    public void Synchronize()
    {
        using DeviceBinding bound = Bind();
        Order.WaitFor(Order.Mark());
    }

    /// <summary>Waits for all that was enqueued, before memory is released. An accelerator that its owner has disposed took the memory with it.</summary>
    public void Finish()
    {
        if (!Accelerator.IsDisposed)
        {
            Synchronize();
        }
    }

    public void Dispose()
    {
        Staging.Dispose();
        if (!Accelerator.IsDisposed)
        {
            using DeviceBinding bound = Bind();
            _clock?.Dispose();
            Order.Dispose();
        }
    }
}
