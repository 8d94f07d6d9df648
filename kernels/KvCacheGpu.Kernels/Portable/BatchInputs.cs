using ILGPU;
using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>A tensor where kernels read it, in binary32.</summary>
internal readonly record struct BatchInput(ArrayView<float> View, int TokenStride, int HeadStride);

/// <summary>
/// Brings a batch's tensors to where its kernels read them: host tensors pass through pinned memory; device tensors of binary32 are read where
/// they lie, 16-bit ones are widened. Callers hold the tier's lock, except while they wait.
/// </summary>
internal sealed class BatchInputs(PortableTier tier, BatchMemory memory)
{
    private readonly KvGeometry _geometry = tier.Shape.Geometry;
    private long _pairsEpoch;
    private long _queriesEpoch;

    /// <summary>Waits until the pinned keys and values may be written again.</summary>
    public void WaitForPairs() => tier.Link.WaitFor(_pairsEpoch);

    /// <summary>Waits until the pinned queries may be written again.</summary>
    public void WaitForQueries() => tier.Link.WaitFor(_queriesEpoch);

    public BatchInput Keys(KvTensor keys, int tokens) =>
        Bring(keys, tokens, new VectorShape(_geometry.KvHeads, _geometry.KeyWidth), memory.PinnedPairs, 0, memory.Input, ref _pairsEpoch);

    /// <summary>Values lie behind the keys of a full batch.</summary>
    public BatchInput Values(KvTensor values, int tokens)
    {
        ArrayView<float> behind = memory.Input.SubView(memory.KeyFloats, memory.PinnedPairs.Length - memory.KeyFloats);
        var vectors = new VectorShape(_geometry.KvHeads, _geometry.ValueWidth);
        return Bring(values, tokens, vectors, memory.PinnedPairs, memory.KeyFloats, behind, ref _pairsEpoch);
    }

    public BatchInput Queries(KvTensor queries, int tokens) =>
        Bring(queries, tokens, new VectorShape(_geometry.QueryHeads, _geometry.KeyWidth), memory.PinnedQueries, 0, memory.Input, ref _queriesEpoch);

    /// <summary>Leaves the queries scaled in the rotated basis too, where a class of the layer needs them so.</summary>
    public void Rotate(int layer, BatchInput queries, int tokens, float scale)
    {
        bool rotates = false;
        foreach (AttendForm form in tier.Launchers.Of(layer))
        {
            rotates |= form.RotatesKeys;
        }

        if (rotates)
        {
            KvGeometry g = _geometry;
            var config = new KernelConfig(tokens * g.QueryHeads, tier.GroupSize, SharedMemoryConfig.RequestDynamic<float>(g.KeyWidth));
            tier.Launchers.Rotate(
                tier.Link.Stream,
                config,
                queries.View,
                memory.Rotated,
                queries.TokenStride,
                queries.HeadStride,
                g.QueryHeads,
                g.KeyWidth,
                scale,
                tier.KeySigns.View,
                tier.KeySigns.Norm);
        }
    }

    private BatchInput Bring(
        KvTensor tensor, int tokens, VectorShape vectors, PageLockedArray1D<float> pinned, int at, ArrayView<float> device, ref long epoch)
    {
        (int heads, int width) = vectors;
        int count = tokens * heads * width;
        int headStride = tensor.HeadStride == 0 ? width : tensor.HeadStride;
        int tokenStride = tensor.TokenStride == 0 ? heads * headStride : tensor.TokenStride;
        if (!tensor.IsOnDevice)
        {
            HostPacking.Pack(tensor, tokens, heads, width, pinned.Span[at..]);
            epoch = tier.Link.Upload(pinned, at, device, count);
            return new BatchInput(device, heads * width, width);
        }

        if (tensor.DevicePointer != 0)
        {
            throw new NotSupportedException("tensors by their address");
        }

        if (!tensor.Stream.IsDefault)
        {
            tier.Link.Order.After(tier.Link.Order.Resolve(tensor.Stream));
        }

        if (tensor.Type == TensorType.F32)
        {
            return new BatchInput(tensor.Device.Cast<float>(), tokenStride, headStride);
        }

        var config = new KernelConfig((count + tier.GroupSize - 1) / tier.GroupSize, tier.GroupSize);
        int isHalf = tensor.Type == TensorType.F16 ? 1 : 0;
        tier.Launchers.Widen(tier.Link.Stream, config, tensor.Device.Cast<ushort>(), device, isHalf, tokenStride, headStride, heads, width, count);
        return new BatchInput(device, heads * width, width);
    }

    private readonly record struct VectorShape(int Heads, int Width);
}
