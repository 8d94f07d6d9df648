using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime;

namespace KvCacheGpu.Kernels;

/// <summary>A tensor where kernels read it.</summary>
internal readonly record struct BatchInput(ArrayView<ushort> View, TensorDims Dims);

/// <summary>An output where kernels write it.</summary>
internal readonly record struct BatchOutput(ArrayView<ushort> View, TensorType Type);

/// <summary>
/// Brings a batch's tensors to where its kernels read them: host tensors pass through pinned memory, in their own type; device tensors are read where
/// they lie. Callers hold the tier's lock, except while they wait, and while they look for device tensors.
/// </summary>
internal sealed class BatchInputs(PortableTier tier, BatchMemory memory)
{
    private readonly KvGeometry _geometry = tier.Shape.Geometry;
    private long _pairsEpoch;
    private long _queriesEpoch;

    /// <summary>Waits until the pinned keys and values may be written again, if one of these lies in host memory.</summary>
    public void WaitForPairs(KvTensor keys, KvTensor values)
    {
        if (!keys.IsOnDevice || !values.IsOnDevice)
        {
            tier.Link.WaitFor(_pairsEpoch);
        }
    }

    /// <summary>Waits until the pinned queries may be written again, if these lie in host memory.</summary>
    public void WaitForQueries(KvTensor queries)
    {
        if (!queries.IsOnDevice)
        {
            tier.Link.WaitFor(_queriesEpoch);
        }
    }

    /// <summary>Where a device tensor lies; no valid view for a host tensor. Refuses what kernels cannot read, so it comes before all that a call enqueues.</summary>
    /// <inheritdoc cref="DeviceViews.Of(KvTensor, string)" path="/exception"/>
    public ArrayView<ushort> Find(KvTensor tensor, string name) => tensor.IsOnDevice ? tier.Views.Of(tensor, name) : default;

    /// <summary>Copies all that a device tensor spans to the host, behind what its stream and the batch's were given, and waits. The caller does not hold the tier's lock.</summary>
    /// <inheritdoc cref="DeviceViews.Of(KvTensor, string)" path="/exception"/>
    public void ReadBack(KvTensor tensor, Span<byte> target, AcceleratorStream stream)
    {
        lock (tier.Gate)
        {
            using DeviceBinding bound = tier.Enter(stream);
            ArrayView<ushort> found = Find(tensor, nameof(tensor));
            WaitForWriter(tensor);
            Span<ushort> elements = MemoryMarshal.Cast<byte, ushort>(target);
            found.SubView(0, elements.Length).CopyToCPU(tier.Link.Stream, elements);
        }
    }

    /// <summary>Copies what the host has made to a device output, behind what the batch's stream was given, and waits. The caller does not hold the tier's lock.</summary>
    /// <inheritdoc cref="DeviceViews.Of(KvTensor, string)" path="/exception"/>
    public void Write(KvOutput target, ReadOnlySpan<byte> output, ReadOnlySpan<float> logSumExp, AcceleratorStream stream)
    {
        lock (tier.Gate)
        {
            using DeviceBinding bound = tier.Enter(stream);
            ReadOnlySpan<ushort> elements = MemoryMarshal.Cast<byte, ushort>(output);
            tier.Views.Of(target, nameof(target)).SubView(0, elements.Length).CopyFromCPU(tier.Link.Stream, elements);
            if (!logSumExp.IsEmpty)
            {
                tier.Views.SumsOf(target, logSumExp.Length).SubView(0, logSumExp.Length).CopyFromCPU(tier.Link.Stream, logSumExp);
            }
        }

        tier.Link.Synchronize();
    }

    public BatchInput Keys(KvTensor keys, ArrayView<ushort> found, int tokens) =>
        Bring(keys, found, new VectorShape(tokens, _geometry.KvHeads, _geometry.KeyWidth), memory.PinnedPairs, 0, memory.Input, ref _pairsEpoch);

    /// <summary>Values lie behind the keys of a full batch.</summary>
    public BatchInput Values(KvTensor values, ArrayView<ushort> found, int tokens)
    {
        ArrayView<float> behind = memory.Input.SubView(memory.KeyFloats, memory.PinnedPairs.Length - memory.KeyFloats);
        var vectors = new VectorShape(tokens, _geometry.KvHeads, _geometry.ValueWidth);
        return Bring(values, found, vectors, memory.PinnedPairs, memory.KeyFloats, behind, ref _pairsEpoch);
    }

    public BatchInput Queries(KvTensor queries, ArrayView<ushort> found, int tokens) =>
        Bring(queries, found, new VectorShape(tokens, _geometry.QueryHeads, _geometry.KeyWidth), memory.PinnedQueries, 0, memory.Input, ref _queriesEpoch);

    /// <summary>Leaves the queries scaled in the rotated basis too, in each form that a class of the layer needs.</summary>
    public void Rotate(int layer, BatchInput queries, int tokens, float scale, KernelDims dims)
    {
        (bool rotates, bool scales) = (false, false);
        foreach (AttendForm form in tier.Launchers.Of(layer))
        {
            rotates |= form.RotatesKeys && !form.ScalesKeys;
            scales |= form.ScalesKeys;
        }

        if (rotates || scales)
        {
            int vectors = tokens * _geometry.QueryHeads;
            var config = new KernelConfig(
                rotates && scales ? 2 * vectors : vectors, tier.GroupSize, SharedMemoryConfig.RequestDynamic<float>(_geometry.KeyWidth));
            var call = new RotateDims(queries.Dims, layer, vectors, rotates ? 0 : vectors, memory.ScaledVectors, scale * tier.KeySigns.Norm);
            tier.Launchers.Rotate(tier.Link.Stream, config, memory.Integers, queries.View, memory.Rotated, tier.KeySigns.View, call, dims);
        }
    }

    private BatchInput Bring(
        KvTensor tensor, ArrayView<ushort> found, VectorShape shape, PageLockedArray1D<float> pinned, int at, ArrayView<float> device, ref long epoch)
    {
        (int tokens, int heads, int width) = shape;
        if (!tensor.IsOnDevice)
        {
            int bytes = tokens * heads * width * tensor.ElementBytes;
            HostPacking.Pack(tensor, tokens, heads, width, MemoryMarshal.AsBytes(pinned.Span[at..]));
            epoch = tier.Link.Upload(pinned, at, device, (bytes + sizeof(float) - 1) / sizeof(float));
            return new BatchInput(device.Cast<ushort>(), new TensorDims((int)tensor.Type, heads * width, width));
        }

        WaitForWriter(tensor);
        (int tokenStride, int headStride) = tensor.StridesFor(heads, width);
        return new BatchInput(found, new TensorDims((int)tensor.Type, tokenStride, headStride));
    }

    private void WaitForWriter(KvTensor tensor)
    {
        if (!tensor.Stream.IsDefault)
        {
            tier.Link.Order.After(tier.Link.Order.Resolve(tensor.Stream));
        }
    }

    private readonly record struct VectorShape(int Tokens, int Heads, int Width);
}
