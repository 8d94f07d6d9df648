using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.Cuda;

namespace KvCacheGpu.Kernels;

/// <summary>
/// Views of the memory that a host's tensors name, checked before anything is enqueued that would read or write it. Allocates nothing on the managed heap.
/// Callers have made the accelerator the thread's.
/// </summary>
internal sealed class DeviceViews(Accelerator accelerator) : IDisposable
{
    private readonly AddressSpace? _addresses = accelerator.AcceleratorType == AcceleratorType.OpenCL ? null : new(accelerator);

    /// <summary>The elements of a device tensor.</summary>
    /// <exception cref="ArgumentException">Not memory of this device, or not all of it, or an address that is no multiple of the element's size.</exception>
    /// <exception cref="ObjectDisposedException">The buffer was disposed.</exception>
    /// <exception cref="NotSupportedException">An address, where the device has none.</exception>
    public ArrayView<ushort> Of(KvTensor tensor, string name) => Elements(tensor.DevicePointer, tensor.Device, tensor.Length, tensor.ElementBytes, name);

    /// <summary>The elements of a device output.</summary>
    /// <inheritdoc cref="Of(KvTensor, string)"/>
    public ArrayView<ushort> Of(KvOutput output, string name) => Elements(output.DevicePointer, output.Device, output.Length, output.ElementBytes, name);

    /// <summary>The log-sum-exps of a device output that wants them, one for each of its vectors.</summary>
    /// <inheritdoc cref="Of(KvTensor, string)"/>
    public ArrayView<float> SumsOf(KvOutput output, int vectors) => output.DevicePointer != 0
        ? At(output.LogSumExpPointer, (long)vectors * sizeof(float), sizeof(float), "logSumExp").Cast<float>()
        : Checked(output.DeviceLogSumExp, sizeof(float), "logSumExp");

    public void Dispose() => _addresses?.Dispose();

    private ArrayView<ushort> Elements(nint pointer, ArrayView<byte> view, long length, int elementBytes, string name) =>
        (pointer != 0 ? At(pointer, length * elementBytes, elementBytes, name) : Checked(view, elementBytes, name)).Cast<ushort>();

    private ArrayView<T> Checked<T>(ArrayView<T> view, int alignment, string name)
        where T : unmanaged
    {
        if (!view.IsValid)
        {
            throw new ArgumentException($"{name}: expected memory of {accelerator.Name}, got none", name);
        }

        MemoryBuffer buffer = BufferOf(view);
        ObjectDisposedException.ThrowIf(buffer.IsDisposed, buffer);
        if (buffer.Accelerator != accelerator)
        {
            throw new ArgumentException(
                $"{name}: expected a buffer of the cache's accelerator, {accelerator.Name}, got one of another, {buffer.Accelerator?.Name ?? "the host"}", name);
        }

        ThrowIfMisaligned(FirstByteOf(view), alignment, name);
        return view;
    }

    private ArrayView<byte> At(nint address, long bytes, int alignment, string name)
    {
        if (_addresses is null)
        {
            throw new NotSupportedException($"{name}: OpenCL has no addresses that a host could give: expected a view of a buffer");
        }

        ThrowIfMisaligned(address, alignment, name);
        if (accelerator is CudaAccelerator)
        {
            CudaDriver.Current.ThrowIfNotReachable(accelerator.NativePtr, address, bytes, name);
        }

        return new ArrayView<byte>(_addresses, address, bytes);
    }

    private static void ThrowIfMisaligned(long address, int alignment, string name)
    {
        if (address % alignment != 0)
        {
            throw new ArgumentException($"{name}: expected elements of {alignment} bytes at a multiple of {alignment}, got them at {address:x}", name);
        }
    }

    // Both are members of interfaces alone; a constrained call boxes nothing.
    private static MemoryBuffer BufferOf<TView>(TView view)
        where TView : struct, IArrayView => view.Buffer;

    private static long FirstByteOf<TView>(TView view)
        where TView : struct, IContiguousArrayView => view.IndexInBytes;

    /// <summary>All that an address can name, as one buffer that begins at 0: a view into it is an address and a length.</summary>
    private sealed class AddressSpace(Accelerator accelerator) : MemoryBuffer(accelerator, long.MaxValue, 1)
    {
        protected override void MemSet(AcceleratorStream stream, byte value, in ArrayView<byte> targetView) =>
            throw new NotSupportedException("memory that a host names is written by kernels and copies alone");

        protected override void CopyTo(AcceleratorStream stream, in ArrayView<byte> sourceView, in ArrayView<byte> targetView) =>
            throw new NotSupportedException("memory that a host names is read by kernels alone");

        protected override void CopyFrom(AcceleratorStream stream, in ArrayView<byte> sourceView, in ArrayView<byte> targetView) =>
            throw new NotSupportedException("copies into memory that a host names go by the buffer that they come from");

        // It owns none of it.
        protected override void DisposeAcceleratorObject(bool disposing)
        {
        }
    }
}
