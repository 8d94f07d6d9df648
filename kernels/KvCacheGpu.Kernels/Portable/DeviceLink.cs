using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Kernels;

/// <summary>
/// A tier's way to its device: memory there, the stream that work is enqueued on, and the copies between pinned host memory and the device.
/// </summary>
internal sealed class DeviceLink : IDisposable
{
    private readonly AllocationObserver? _observer;

    public DeviceLink(Accelerator accelerator, AllocationObserver? observer)
    {
        (Accelerator, _observer) = (accelerator, observer);
        DeviceCompiler.KeepMemoryOrder(accelerator);
        using Bound bound = Bind();
        Order = new StreamOrder(accelerator);
        Staging = new Staging(this);
    }

    public Accelerator Accelerator { get; }

    /// <summary>The order of all work, over all streams.</summary>
    public StreamOrder Order { get; }

    /// <summary>Where integers pass through on their way to the device.</summary>
    public Staging Staging { get; }

    /// <summary>The stream that work is enqueued on.</summary>
    public AcceleratorStream Stream => Order.Current;

    /// <summary>Makes the accelerator the thread's until the result is disposed; then the thread has again what it had.</summary>
    public Bound Bind() => new(Accelerator);

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

    /// <summary>Waits until the work of an epoch has ended.</summary>
    public void WaitFor(long epoch)
    {
        using Bound bound = Bind();
        Order.WaitFor(epoch);
    }

    /// <summary>Waits for all that was enqueued.</summary>
    public void Synchronize()
    {
        using Bound bound = Bind();
        Order.WaitFor(Order.Mark());
    }

    public void Dispose()
    {
        using Bound bound = Bind();
        Staging.Dispose();
        Order.Dispose();
    }

    /// <summary>
    /// An accelerator that is the thread's current one. ILGPU goes by a note of its own: where something else has changed CUDA's current context since,
    /// it is set here; and what the thread had before is its own again at the end.
    /// </summary>
    public readonly ref struct Bound
    {
        private readonly ScopedAcceleratorBinding _binding;
        private readonly nint _before;

        public Bound(Accelerator accelerator)
        {
            _before = accelerator is CudaAccelerator ? CudaDriver.Current.CurrentContext : 0;
            _binding = accelerator.BindScoped();
            if (accelerator is CudaAccelerator && CudaDriver.Current.CurrentContext != accelerator.NativePtr)
            {
                CudaDriver.Current.CurrentContext = accelerator.NativePtr;
            }
        }

        public void Dispose()
        {
            _binding.Recover();
            if (_before != 0 && CudaDriver.Current.CurrentContext != _before)
            {
                CudaDriver.Current.CurrentContext = _before;
            }
        }
    }
}
