using ILGPU;
using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>Sums of the squares of queries on the device, f32[layers][KV heads][key width], in the order of the tier's work. Callers hold the tier's lock.</summary>
internal sealed class DeviceQuerySums : IDisposable
{
    private readonly DeviceLink _link;
    private readonly int _groupSize;
    private readonly SumLauncher _sum;
    private readonly MemoryBuffer1D<float, Stride1D.Dense> _buffer;

    public DeviceQuerySums(DeviceLink link, KvGeometry geometry, int groupSize)
    {
        (_link, _groupSize) = (link, groupSize);
        _sum = link.Accelerator.LoadKernel<SumLauncher>(PortableKernels.SumQueries);
        _buffer = link.Allocate<float>(AllocationKind.Scratch, (long)geometry.Layers * geometry.KvHeads * geometry.KeyWidth);
        View.MemSetToZero(link.Stream);
    }

    /// <summary>True while queries are added.</summary>
    public bool IsOn { get; private set; }

    public ArrayView<float> View => _buffer.View.AsContiguous();

    /// <summary>Begins from zero, or adds no more.</summary>
    public void Set(bool isOn)
    {
        if (isOn)
        {
            View.MemSetToZero(_link.Stream);
        }

        IsOn = isOn;
    }

    /// <summary>Enqueues the addition of a layer's queries, if they are wanted.</summary>
    public void Enqueue(ArrayView<int> batch, BatchInput queries, int layer, int tokens, KernelDims dims)
    {
        if (IsOn)
        {
            int slices = (dims.KeyWidth + _groupSize - 1) / _groupSize;
            _sum(_link.Stream, new KernelConfig(dims.KvHeads * slices, _groupSize), batch, queries.View, View, queries.Dims, layer, tokens, dims);
        }
    }

    public void Dispose() => _link.Release(AllocationKind.Scratch, _buffer);
}
