using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// One forward pass over a batch of sequences: per layer an append and its attention, then <see cref="Commit"/>. Disposed without it, the
/// step leaves no trace. Used by one thread at a time.
/// </summary>
/// <remarks>
/// Tensors hold the tokens of all sequences, the first sequence's first. Members but <see cref="Dispose"/> throw
/// <see cref="ObjectDisposedException"/> once the step has ended and <see cref="KvConcurrencyException"/> while another thread is inside.
/// </remarks>
public sealed partial class KvStep : IDisposable
{
    private readonly KvCache _cache;
    private readonly KvSequence[] _sequences;
    private readonly RaggedSequence[] _ragged;
    private readonly LayerSet _attended;
    private StepMemory? _memory;
    private int _appended;

    // The thread that is inside, below 0 if it ends the step.
    private int _inUse;

    internal KvStep(KvCache cache, KvSequence[] sequences)
    {
        (_cache, _sequences) = (cache, sequences);
        _ragged = new RaggedSequence[sequences.Length];
        _attended = new LayerSet(cache.Geometry.Layers);
    }

    /// <summary>Tokens of the step, over all its sequences.</summary>
    public int Tokens { get; private set; }

    /// <summary>Writes a layer's keys and values into the open pages. Layers come in order, each once.</summary>
    /// <param name="layer">Layer, 0 first.</param>
    /// <param name="keys"><c>[tokens][KV heads][key width]</c>.</param>
    /// <param name="values"><c>[tokens][KV heads][value width]</c>.</param>
    /// <exception cref="KvStepOrderException">E009: not the layer's turn.</exception>
    /// <exception cref="ArgumentException">No such layer, or a tensor of another shape.</exception>
    /// <exception cref="KvUnsupportedException">E009: a device tensor where pages live in host memory.</exception>
    public void Append(int layer, KvTensor keys, KvTensor values)
    {
        using Call call = new(this);
        KvGeometry geometry = _cache.Geometry;
        KvCache.ThrowIfOutside(layer, geometry.Layers, nameof(layer));
        if (layer != _appended)
        {
            string expected = _appended < geometry.Layers ? $"layer {_appended}" : "Commit, all layers being there";
            throw new KvStepOrderException("Append", expected, $"layer {layer}");
        }

        keys.ThrowIfNotShaped(Tokens, geometry.KvHeads, geometry.KeyWidth, nameof(keys));
        values.ThrowIfNotShaped(Tokens, geometry.KvHeads, geometry.ValueWidth, nameof(values));
        try
        {
            call.Memory.Batch.Append(layer, keys, values);
        }
        catch (NotSupportedException e)
        {
            throw Unsupported("Append", e);
        }

        _appended++;
    }

    /// <summary>
    /// Causal attention over everything resident in a layer and the step's own tokens. May be called any number of times. Finite queries give
    /// finite output, however small or large they are; log-sum-exps beyond binary32 are its largest number.
    /// </summary>
    /// <param name="layer">A layer that this step has appended.</param>
    /// <param name="queries"><c>[tokens][query heads][key width]</c>; scaled by 1/sqrt(key width) inside.</param>
    /// <param name="output">
    /// Receives <c>[tokens][query heads][value width]</c>, in host memory or on the device, and where it is wanted the natural log-sum-exp of each
    /// <c>[token][query head]</c>.
    /// </param>
    /// <param name="window">A token sees itself and the <c>window - 1</c> positions before it; pages before all windows are not read. The default value is 0: all before it.</param>
    /// <exception cref="KvStepOrderException">E009: the layer has not been appended.</exception>
    /// <exception cref="ArgumentException">No such layer, or a tensor or target of another shape.</exception>
    /// <exception cref="KvUnsupportedException">E009: a device tensor where pages live in host memory; a window over merged pages.</exception>
    public void Attend(int layer, KvTensor queries, KvOutput output, int window = 0)
    {
        using Call call = new(this);
        ArgumentOutOfRangeException.ThrowIfNegative(window);
        ThrowIfNotAttendable(layer, queries, window);
        output = output.First(Tokens * _cache.Geometry.QueryHeads, _cache.Geometry.ValueWidth);
        try
        {
            call.Memory.Batch.Attend(layer, queries, output, window);
            SeeAttention(call.Memory, layer, queries, output.Host);
        }
        catch (NotSupportedException e)
        {
            throw Unsupported("Attend", e);
        }

        Attended(layer, window);
    }

    private void ThrowIfNotAttendable(int layer, KvTensor queries, int window)
    {
        KvGeometry geometry = _cache.Geometry;
        KvCache.ThrowIfOutside(layer, geometry.Layers, nameof(layer));
        if (layer >= _appended)
        {
            throw new KvStepOrderException(
                "Attend", _appended == 0 ? "Append of layer 0 first" : $"a layer up to {_appended - 1}, as appended", $"layer {layer}");
        }

        queries.ThrowIfNotShaped(Tokens, geometry.QueryHeads, geometry.KeyWidth, nameof(queries));
        foreach (KvSequence sequence in _sequences)
        {
            sequence.ThrowIfWindowOverMerged(layer, window);
        }
    }

    private void Attended(int layer, int window)
    {
        _attended.Add(layer);
        if (window > 0)
        {
            _cache.NoteWindow(layer);
        }
    }

    private KvUnsupportedException Unsupported(string what, NotSupportedException inner) =>
        new($"{what} on {_cache.TierName}", "memory that the device reads", inner.Message, inner);

    /// <summary>One call on a step that is under way: no other thread meanwhile.</summary>
    private readonly ref struct Call
    {
        private readonly KvStep _step;

        public Call(KvStep step)
        {
            step.Enter();
            _step = step;
            if (step._memory is null)
            {
                step.Leave();
                throw new ObjectDisposedException(nameof(KvStep), "expected a step under way, got one that was committed or disposed");
            }

            Memory = step._memory;
        }

        public StepMemory Memory { get; }

        public void Dispose() => _step.Leave();
    }
}
