using ILGPU;
using ILGPU.Runtime;

namespace KvCacheGpu.GpuCheck;

/// <summary>
/// A host's tensors on a device: keys, values and queries of single tokens, written there by a kernel of its own, and the outputs of attention. Each step
/// has memory of its own, so that only the order of streams keeps reads behind writes.
/// </summary>
internal sealed class HostTensors : IDisposable
{
    private readonly KvGeometry _geometry;
    private readonly int _pairFloats;
    private readonly int _queryFloats;
    private readonly MemoryBuffer1D<float, Stride1D.Dense> _inputs;
    private readonly MemoryBuffer1D<float, Stride1D.Dense> _outputs;
    private readonly Action<AcceleratorStream, Index1D, ArrayView<float>, int, int, int, int, int> _fill;
    private readonly int _outlierEvery;

    /// <param name="accelerator">The host's.</param>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="steps">How many steps there will be.</param>
    /// <param name="hasOutliers">True to make one pair of elements of each key 16 times as large, and the queries' 16 times as small.</param>
    public HostTensors(Accelerator accelerator, KvGeometry geometry, int steps, bool hasOutliers = false)
    {
        (_geometry, _outlierEvery) = (geometry, hasOutliers ? geometry.KeyWidth / 2 : 0);
        (_pairFloats, _queryFloats) = (geometry.KvHeads * geometry.KeyWidth, geometry.QueryHeads * geometry.KeyWidth);
        _inputs = accelerator.Allocate1D<float>((long)steps * geometry.Layers * LayerFloats);
        _outputs = accelerator.Allocate1D<float>((long)steps * geometry.Layers * _queryFloats);
        _fill = accelerator.LoadAutoGroupedKernel<Index1D, ArrayView<float>, int, int, int, int, int>(Fill);
        accelerator.Synchronize();
    }

    private int LayerFloats => (2 * _pairFloats) + _queryFloats;

    /// <summary>Enqueues the kernel that writes a step's keys, values and queries.</summary>
    /// <param name="stream">The stream.</param>
    /// <param name="step">The step.</param>
    /// <param name="isNan">True to write a NaN among the keys.</param>
    /// <param name="place">The step in whose place they are written; the default value, -1, is its own.</param>
    public void Write(AcceleratorStream stream, int step, bool isNan = false, int place = -1)
    {
        int floats = _geometry.Layers * LayerFloats;
        _fill(stream, floats, _inputs.View.AsContiguous().SubView((long)(place < 0 ? step : place) * floats, floats), step, isNan ? 0 : -1, _pairFloats, LayerFloats, _outlierEvery);
    }

    /// <summary>One step of one token, on a stream.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="step">The step, which is the token's id too.</param>
    /// <param name="stream">The step's stream.</param>
    /// <param name="of">The stream that writes the tensors; the default value: the step's own.</param>
    /// <param name="waits">True if the commit waits.</param>
    /// <param name="abandons">True if the step is abandoned once all is enqueued.</param>
    public void Step(KvSequence sequence, int step, KvStream stream, KvStream of = default, bool waits = false, bool abandons = false)
    {
        using KvStep open = sequence.Begin([step], stream);
        Layers(open, step, of);
        if (abandons)
        {
            return;
        }

        if (waits)
        {
            open.Commit();
        }
        else
        {
            open.EnqueueCommit();
        }
    }

    /// <summary>The calls of a step's layers, on the tensors of a step's place.</summary>
    public void Layers(KvStep open, int place, KvStream of = default)
    {
        for (int layer = 0; layer < _geometry.Layers; layer++)
        {
            ArrayView<float> all = _inputs.View.AsContiguous().SubView(((long)(place * _geometry.Layers) + layer) * LayerFloats, LayerFloats);
            open.Append(layer, Tensor(all.SubView(0, _pairFloats), of), Tensor(all.SubView(_pairFloats, _pairFloats), of));
            open.Attend(layer, Tensor(all.SubView(2 * _pairFloats, _queryFloats), of), Output(place, layer));
        }
    }

    /// <summary>Attends by the first queries on a stream, into memory of another accelerator.</summary>
    public void Misread(KvSequence sequence, KvStream stream)
    {
        ArrayView<float> queries = _inputs.View.AsContiguous().SubView(2 * _pairFloats, _queryFloats);
        using Accelerator other = _outputs.Accelerator.Device.CreateAccelerator(_outputs.Accelerator.Context);
        using MemoryBuffer1D<float, Stride1D.Dense> foreign = other.Allocate1D<float>(_queryFloats);
        sequence.Attend(0, Tensor(queries, stream), foreign.View.AsContiguous());
    }

    /// <summary>The outputs of all steps and layers. The device has ended its work.</summary>
    public float[][] Outputs() => [.. _outputs.GetAsArray1D().Chunk(_queryFloats)];

    /// <summary>The outputs of the same steps on a cache that works in host memory.</summary>
    public float[][] Expected(KvSequence sequence, int steps)
    {
        var outputs = new List<float[]>();
        for (int step = 0; step < steps; step++)
        {
            using KvStep open = sequence.Begin([step]);
            for (int layer = 0; layer < _geometry.Layers; layer++)
            {
                int at = layer * LayerFloats;
                float[] all = [.. Enumerable.Range(at, LayerFloats).Select(i => Value(i, step) * FactorAt(i, _pairFloats, LayerFloats, _outlierEvery))];
                open.Append(layer, all[.._pairFloats], all[_pairFloats..(2 * _pairFloats)]);
                outputs.Add(new float[_queryFloats]);
                open.Attend(layer, all[(2 * _pairFloats)..], outputs[^1]);
            }

            open.Commit();
        }

        return [.. outputs];
    }

    public void Dispose()
    {
        _inputs.Dispose();
        _outputs.Dispose();
    }

    private static KvTensor Tensor(ArrayView<float> floats, KvStream of) => KvTensor.FromDevice(floats, stream: of);

    private ArrayView<float> Output(int step, int layer) =>
        _outputs.View.AsContiguous().SubView(((long)(step * _geometry.Layers) + layer) * _queryFloats, _queryFloats);

    private static void Fill(Index1D i, ArrayView<float> target, int step, int nanAt, int pairFloats, int layerFloats, int outlierEvery) =>
        target[i] = i == nanAt ? float.NaN : Value(i, step) * FactorAt(i, pairFloats, layerFloats, outlierEvery);

    // A layer's floats are keys, values, queries.
    private static float FactorAt(int i, int pairFloats, int layerFloats, int outlierEvery)
    {
        int at = i % layerFloats;
        bool isOutlier = outlierEvery > 0 && at % outlierEvery == 3 && (at < pairFloats || at >= 2 * pairFloats);
        return !isOutlier ? 1f : at < pairFloats ? 16f : 1f / 16f;
    }

    // Multiples of 1/256 within -2..2, the same on every device.
    private static float Value(int i, int step)
    {
        uint hash = ((uint)step * 0x9E3779B1) ^ ((uint)i * 0x85EBCA77);
        hash = (hash ^ (hash >> 15)) * 0x2C1B3C6D;
        hash = (hash ^ (hash >> 12)) * 0x297A2D39;
        return ((int)((hash ^ (hash >> 15)) % 1025) - 512) / 256f;
    }
}
