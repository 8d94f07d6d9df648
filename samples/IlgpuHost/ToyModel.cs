using ILGPU;
using ILGPU.Runtime;

namespace KvCacheGpu.Samples;

/// <summary>
/// A model of four layers without meaning, computed on the device: a layer projects its input to queries, keys and values, attends through the cache, and adds
/// what attention gives to its input. Weights are a formula, so that a plain computation has the same.
/// </summary>
internal sealed class ToyModel : IDisposable
{
    /// <summary>Four layers; two query heads share a KV head.</summary>
    public static readonly KvGeometry Geometry = new(layers: 4, queryHeads: 4, kvHeads: 2, keyWidth: 16, pageTokens: 16);

    private const int MaxTokens = 32;

    private readonly AcceleratorStream _stream;
    private readonly Action<AcceleratorStream, Index1D, ArrayView<int>, ArrayView<float>> _embed;
    private readonly Action<AcceleratorStream, Index1D, ArrayView<float>, ArrayView<float>, int, int> _project;
    private readonly Action<AcceleratorStream, Index1D, ArrayView<float>, ArrayView<float>> _add;
    private readonly MemoryBuffer1D<int, Stride1D.Dense> _ids;
    private readonly MemoryBuffer1D<float, Stride1D.Dense> _hidden;
    private readonly MemoryBuffer1D<float, Stride1D.Dense> _queries;
    private readonly MemoryBuffer1D<float, Stride1D.Dense> _keys;
    private readonly MemoryBuffer1D<float, Stride1D.Dense> _values;
    private readonly MemoryBuffer1D<float, Stride1D.Dense> _attended;

    public ToyModel(Accelerator accelerator, AcceleratorStream stream)
    {
        _stream = stream;
        _embed = accelerator.LoadAutoGroupedKernel<Index1D, ArrayView<int>, ArrayView<float>>(Embed);
        _project = accelerator.LoadAutoGroupedKernel<Index1D, ArrayView<float>, ArrayView<float>, int, int>(Project);
        _add = accelerator.LoadAutoGroupedKernel<Index1D, ArrayView<float>, ArrayView<float>>(Add);
        _ids = accelerator.Allocate1D<int>(MaxTokens);
        _hidden = accelerator.Allocate1D<float>(MaxTokens * PlainModel.Hidden);
        _queries = accelerator.Allocate1D<float>(MaxTokens * PlainModel.Hidden);
        _keys = accelerator.Allocate1D<float>(MaxTokens * PlainModel.KeyWidth);
        _values = accelerator.Allocate1D<float>(MaxTokens * PlainModel.KeyWidth);
        _attended = accelerator.Allocate1D<float>(MaxTokens * PlainModel.Hidden);
    }

    /// <summary>One forward pass over some tokens of a sequence; returns the hidden vector of the last of them, the only thing that is read from the device.</summary>
    public float[] Run(KvCache cache, KvSequence sequence, int[] ids)
    {
        int hidden = ids.Length * PlainModel.Hidden, keys = ids.Length * PlainModel.KeyWidth;
        _ids.View.SubView(0, ids.Length).CopyFromCPU(_stream, ids);
        _embed(_stream, hidden, _ids.View.AsContiguous(), _hidden.View.AsContiguous());
        using KvStep step = cache.Begin([sequence], ids, [ids.Length], _stream);
        for (int layer = 0; layer < cache.Geometry.Layers; layer++)
        {
            _project(_stream, hidden, _hidden.View.AsContiguous(), _queries.View.AsContiguous(), PlainModel.Hidden, PlainModel.Seed(layer, 0));
            _project(_stream, keys, _hidden.View.AsContiguous(), _keys.View.AsContiguous(), PlainModel.KeyWidth, PlainModel.Seed(layer, 1));
            _project(_stream, keys, _hidden.View.AsContiguous(), _values.View.AsContiguous(), PlainModel.KeyWidth, PlainModel.Seed(layer, 2));
            step.Append(layer, Tensor(_keys, keys), Tensor(_values, keys));
            step.Attend(layer, Tensor(_queries, hidden), KvOutput.FromDevice(_attended.View.SubView(0, hidden).AsContiguous()));
            _add(_stream, hidden, _hidden.View.AsContiguous(), _attended.View.AsContiguous());
        }

        step.EnqueueCommit();
        float[] last = new float[PlainModel.Hidden];
        _hidden.View.SubView(hidden - last.Length, last.Length).CopyToCPU(_stream, last);
        _stream.Synchronize();
        return last;
    }

    public void Dispose()
    {
        foreach (MemoryBuffer buffer in new MemoryBuffer[] { _ids, _hidden, _queries, _keys, _values, _attended })
        {
            buffer.Dispose();
        }
    }

    private static KvTensor Tensor(MemoryBuffer1D<float, Stride1D.Dense> buffer, int floats) =>
        KvTensor.FromDevice(buffer.View.SubView(0, floats).AsContiguous());

    private static void Embed(Index1D i, ArrayView<int> ids, ArrayView<float> hidden) =>
        hidden[i] = PlainModel.Weight(ids[i / PlainModel.Hidden], i % PlainModel.Hidden, 7);

    private static void Project(Index1D i, ArrayView<float> hidden, ArrayView<float> output, int width, int seed)
    {
        int token = i / width, column = i % width;
        float sum = 0;
        for (int k = 0; k < PlainModel.Hidden; k++)
        {
            sum += hidden[(token * PlainModel.Hidden) + k] * PlainModel.Weight(k, column, seed);
        }

        output[i] = sum;
    }

    private static void Add(Index1D i, ArrayView<float> hidden, ArrayView<float> attended) => hidden[i] += attended[i];
}
