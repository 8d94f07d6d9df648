using ILGPU;
using ILGPU.Runtime;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>Bytes on a tier's device that begin a few bytes behind a buffer's start, as a view and by their address.</summary>
public sealed class DeviceBytes : IDisposable
{
    private readonly MemoryBuffer1D<byte, Stride1D.Dense> _buffer;
    private readonly int _offset;
    private readonly int _length;

    private DeviceBytes(Accelerator accelerator, ReadOnlySpan<byte> bytes, int offset)
    {
        (_offset, _length) = (offset, bytes.Length);
        byte[] all = new byte[offset + bytes.Length];
        bytes.CopyTo(all.AsSpan(offset));
        _buffer = accelerator.Allocate1D(all);
        accelerator.Synchronize();
    }

    /// <summary>The bytes as a view.</summary>
    public ArrayView<byte> View => _buffer.View.AsContiguous().SubView(_offset, _length);

    /// <summary>The address of the first byte.</summary>
    public nint Address => _buffer.NativePtr + _offset;

    /// <summary>The accelerator of a tier; null for a tier in host memory.</summary>
    public static Accelerator? AcceleratorOf(KernelTier tier) => (tier as PortableTier)?.Link.Accelerator;

    /// <summary>Copies bytes to a tier's device.</summary>
    public static DeviceBytes On(KernelTier tier, ReadOnlySpan<byte> bytes, int offset = 0) => new(AcceleratorOf(tier)!, bytes, offset);

    /// <summary>The bytes as a tensor, by view or by address.</summary>
    public KvTensor Tensor(TensorType type, bool byAddress, int tokenStride = 0, int headStride = 0) => byAddress
        ? KvTensor.FromDevicePointer(Address, type, _length / (type == TensorType.F32 ? 4 : 2), tokenStride, headStride)
        : KvTensor.FromDevice(View, type, tokenStride, headStride);

    /// <summary>The bytes as an output, by view or by address.</summary>
    public KvOutput Output(TensorType type, bool byAddress, DeviceBytes? sums = null) => byAddress
        ? KvOutput.FromDevicePointer(Address, type, _length / (type == TensorType.F32 ? 4 : 2), sums?.Address ?? 0)
        : KvOutput.FromDevice(View, type, sums is null ? default : sums.View.Cast<float>());

    /// <summary>What they are once all work has ended.</summary>
    public byte[] Read()
    {
        _buffer.Accelerator.Synchronize();
        return _buffer.GetAsArray1D()[_offset..];
    }

    /// <inheritdoc/>
    public void Dispose() => _buffer.Dispose();
}
