using ILGPU;
using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>The rotation's diagonal for one width, on the device.</summary>
internal sealed class DeviceSigns : IDisposable
{
    private readonly DeviceLink _link;
    private readonly MemoryBuffer1D<float, Stride1D.Dense> _buffer;

    public DeviceSigns(DeviceLink link, int width, ulong seed)
    {
        _link = link;
        Norm = Rotation.Norm(width);
        _buffer = link.Allocate<float>(AllocationKind.Scratch, width);
        using PageLockedArray1D<float> pinned = link.Pin<float>(width);
        Rotation.Signs(width, seed).CopyTo(pinned.Span);
        link.Upload(pinned, 0, View, width);
        link.Synchronize();
    }

    /// <summary>signs[width].</summary>
    public ArrayView<float> View => _buffer.View.AsContiguous();

    /// <summary><see cref="Rotation.Norm"/> of the width.</summary>
    public float Norm { get; }

    public void Dispose() => _link.Release(AllocationKind.Scratch, _buffer);
}
