namespace KvCacheGpu;

/// <summary>
/// One forward pass over a batch of sequences: per layer an append and its attention, then <see cref="Commit"/>. Disposed without it, the
/// step leaves no trace. Used by one thread at a time.
/// </summary>
/// <remarks>
/// Tensors hold the tokens of all sequences, the first sequence's first. Members but <see cref="Dispose"/> throw
/// <see cref="ObjectDisposedException"/> once the step has ended and <see cref="KvConcurrencyException"/> while another thread is inside.
/// </remarks>
public sealed class KvStep : IDisposable
{
    private readonly CacheState _cache;

    internal KvStep(KvCache cache, SequenceState[] sequences) =>
        (_cache, Transaction) = (cache.State, new StepTransaction(cache.State, cache.Pressure, sequences));

    /// <summary>Tokens of the step, over all its sequences.</summary>
    public int Tokens => Transaction.Tokens;

    internal StepTransaction Transaction { get; }

    /// <summary>Writes a layer's keys and values into the open pages. Layers come in order, each once.</summary>
    /// <param name="layer">Layer, 0 first.</param>
    /// <param name="keys"><c>[tokens][KV heads][key width]</c>.</param>
    /// <param name="values"><c>[tokens][KV heads][value width]</c>.</param>
    /// <exception cref="KvStepOrderException">E010: not the layer's turn.</exception>
    /// <exception cref="ArgumentException">No such layer, or a tensor of another shape.</exception>
    /// <exception cref="KvUnsupportedException">E009: a device tensor where pages live in host memory.</exception>
    public void Append(int layer, KvTensor keys, KvTensor values)
    {
        using StepTransaction.Call call = Transaction.EnterForCall();
        KvGeometry geometry = _cache.Geometry;
        Guard.ThrowIfOutside(layer, geometry.Layers, nameof(layer));
        int next = Transaction.Appended;
        if (layer != next)
        {
            throw new KvStepOrderException("Append", next < geometry.Layers ? $"layer {next}" : "Commit, all layers being there", $"layer {layer}");
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

        Transaction.NoteAppended();
    }

    /// <summary>
    /// Causal attention over everything resident in a layer and the step's own tokens. May be called any number of times. Finite queries give
    /// finite output, however small or large they are; log-sum-exps beyond binary32 are its largest number.
    /// </summary>
    /// <param name="layer">A layer that this step has appended.</param>
    /// <param name="queries"><c>[tokens][query heads][key width]</c>; scaled by 1/sqrt(key width) inside.</param>
    /// <param name="output">
    /// Receives <c>[tokens][query heads][value width]</c>, in host memory or on the device, and if it is wanted the natural log-sum-exp of each
    /// <c>[token][query head]</c>.
    /// </param>
    /// <param name="window">A token sees itself and the <c>window - 1</c> positions before it; pages before all windows are not read. The default value is 0: all before it.</param>
    /// <exception cref="KvStepOrderException">E010: the layer has not been appended.</exception>
    /// <exception cref="ArgumentException">No such layer, or a tensor or target of another shape.</exception>
    /// <exception cref="KvUnsupportedException">E009: a device tensor where pages live in host memory; a window over merged pages.</exception>
    public void Attend(int layer, KvTensor queries, KvOutput output, int window = 0)
    {
        using StepTransaction.Call call = Transaction.EnterForCall();
        CheckAttend(layer, queries, window);
        output = output.First(Tokens * _cache.Geometry.QueryHeads, _cache.Geometry.ValueWidth);
        try
        {
            call.Memory.Batch.Attend(layer, queries, output, window);
            Transaction.NoteAttended(call.Memory, layer, queries, output.Host, window);
        }
        catch (NotSupportedException e)
        {
            throw Unsupported("Attend", e);
        }
    }

    /// <summary>Commits the step: its tokens become part of the sequences; pages left a page behind are sealed; the policy evicts.</summary>
    /// <exception cref="KvNonFiniteException">E004: keys or values were not finite; the step is rolled back and has ended.</exception>
    /// <exception cref="KvStepOrderException">E010: layers are missing; the step goes on.</exception>
    public void Commit()
    {
        using StepTransaction.Call call = Transaction.EnterForCall();
        if (Transaction.Appended != _cache.Geometry.Layers)
        {
            throw new KvStepOrderException("Commit", $"{_cache.Geometry.Layers} layers appended", $"{Transaction.Appended}");
        }

        Transaction.Commit(call.Memory);
    }

    /// <summary>
    /// Ends the step, after a call of another thread that is inside; if it was not committed, every sequence is as before it began. Calls that come
    /// later throw <see cref="ObjectDisposedException"/>.
    /// </summary>
    /// <exception cref="KvConcurrencyException">E006: called from inside of a call on the step, as a policy could; the step goes on.</exception>
    public void Dispose() => Transaction.Abandon();

    private void CheckAttend(int layer, KvTensor queries, int window)
    {
        KvGeometry geometry = _cache.Geometry;
        ArgumentOutOfRangeException.ThrowIfNegative(window);
        Guard.ThrowIfOutside(layer, geometry.Layers, nameof(layer));
        int appended = Transaction.Appended;
        if (layer >= appended)
        {
            throw new KvStepOrderException("Attend", appended == 0 ? "Append of layer 0 first" : $"a layer up to {appended - 1}, as appended", $"layer {layer}");
        }

        queries.ThrowIfNotShaped(Tokens, geometry.QueryHeads, geometry.KeyWidth, nameof(queries));
        Transaction.ThrowIfWindowOverMerged(layer, window);
    }

    private KvUnsupportedException Unsupported(string what, NotSupportedException inner) =>
        new($"{what} on {_cache.Tier.Name}", "memory that the device reads", inner.Message, inner);
}
