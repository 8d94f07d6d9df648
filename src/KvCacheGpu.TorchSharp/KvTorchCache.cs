using static TorchSharp.torch;

namespace KvCacheGpu;

/// <summary>
/// The cache of a torch model, called once for each layer of a forward pass. It begins a step with layer 0 and commits it with the last layer, so that a model
/// need not know steps.
/// </summary>
/// <remarks>
/// <para>
/// <see cref="Attend"/> is for models whose attention can be replaced: it reads compressed pages in place. <see cref="Update"/> is for those that want the keys and
/// values of all tokens, as a cache that concatenates gives them: it decodes the whole layer in each pass, which takes time and memory for every token so far, and
/// policies that rank pages by the attention that they receive see none of it.
/// </para>
/// <para>
/// A pass that throws between layers leaves nothing behind: it does not count in <see cref="Length"/>, and its step is undone by the next pass (its layer 0),
/// <see cref="Abandon"/>, <see cref="Truncate"/> or <see cref="Dispose"/>, whichever comes first. A call here that throws undoes it at once.
/// </para>
/// <para>
/// Token ids are not told to it: the sequences list -1 for each token, so that no prefix is found again by its ids. A pass takes at most
/// <see cref="KvCacheOptions.MaxBatchTokens"/> tokens over all sequences; longer prompts come in pieces.
/// </para>
/// Thread safety: it is used by one thread at a time.
/// </remarks>
public sealed class KvTorchCache : IDisposable
{
    private readonly KvCache _cache;
    private readonly KvSequence[] _sequences;
    private readonly int[] _tokensPerSequence;
    private int[] _ids = [];
    private KvStep _step;
    private int _next;

    /// <summary>Makes empty sequences in a cache of the host's, which stays the host's to dispose.</summary>
    /// <param name="cache">The cache.</param>
    /// <param name="batch">Sequences: the batch dimension of the model's tensors. The default value is 1.</param>
    /// <exception cref="KvOutOfMemoryException">E001: the cache has no room for so many sequences.</exception>
    public KvTorchCache(KvCache cache, int batch = 1)
    {
        ArgumentNullException.ThrowIfNull(cache);
        ArgumentOutOfRangeException.ThrowIfLessThan(batch, 1);
        (_cache, _sequences, _tokensPerSequence) = (cache, new KvSequence[batch], new int[batch]);
        try
        {
            for (int i = 0; i < batch; i++)
            {
                _sequences[i] = cache.CreateSequence();
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The sequences, one for each place of the batch: to fork, save or read them between passes. They are disposed with this.</summary>
    public IReadOnlyList<KvSequence> Sequences => _sequences;

    /// <summary>Tokens of each sequence, without those of a pass under way: the position of the next token.</summary>
    /// <exception cref="ObjectDisposedException">It was disposed.</exception>
    public int Length => _sequences[0].Length;

    /// <summary>Stores a layer's new keys and values, and returns those of all tokens of the layer, as <c>torch.cat</c> of a simple cache does.</summary>
    /// <param name="keys"><c>[batch, KV heads, tokens, key width]</c>, or <c>[tokens, KV heads, key width]</c> for one sequence; roped by the model.</param>
    /// <param name="values">The same with the value width.</param>
    /// <param name="layer">Layer: 0 begins a pass, and the others follow in order. The last one commits.</param>
    /// <returns>
    /// New tensors of the inputs' layout, type and device, with all tokens of the layer, as the pages hold them: bit for bit where the
    /// pages' format holds the tensors' type exactly, as F32 does, F16 for float16, and BF16 for bfloat16; else within the format's error.
    /// </returns>
    /// <exception cref="ObjectDisposedException">A tensor was disposed, or this was.</exception>
    /// <exception cref="ArgumentException">A tensor of another shape, type or device, one that requires gradients, or more tokens than a step takes.</exception>
    /// <exception cref="KvStepOrderException">E010: not the layer's turn.</exception>
    /// <exception cref="KvOutOfMemoryException">E001: no room for the tokens.</exception>
    /// <exception cref="KvNonFiniteException">E004: keys or values were not finite; found with the last layer.</exception>
    /// <exception cref="KvUnsupportedException">E009: a policy evicted tokens of the layer; use <see cref="Attend"/>. Or a tensor on cuda where pages live in host memory.</exception>
    public (Tensor Keys, Tensor Values) Update(Tensor keys, Tensor values, int layer)
    {
        try
        {
            Append(keys, values, layer);
            (Tensor allKeys, Tensor allValues) = ReadLayer(keys, values, layer);
            try
            {
                Advance();
            }
            catch
            {
                allKeys.Dispose();
                allValues.Dispose();
                throw;
            }

            return (allKeys, allValues);
        }
        catch
        {
            Abandon();
            throw;
        }
    }

    /// <summary>Stores a layer's new keys and values, and returns causal attention over all tokens of the layer.</summary>
    /// <param name="queries"><c>[batch, query heads, tokens, key width]</c>, or <c>[tokens, query heads, key width]</c> for one sequence; roped by the model, not scaled.</param>
    /// <param name="keys"><c>[batch, KV heads, tokens, key width]</c>, or <c>[tokens, KV heads, key width]</c>; roped by the model. KV heads are not repeated.</param>
    /// <param name="values">The same with the value width.</param>
    /// <param name="layer">Layer: 0 begins a pass, and the others follow in order. The last one commits.</param>
    /// <param name="window">A token sees itself and the <c>window - 1</c> positions before it. The default value is 0: all before it.</param>
    /// <returns>A new tensor of the queries' layout, type and device, with the value width; <c>transpose(1, 2)</c> of a batched one is contiguous.</returns>
    /// <inheritdoc cref="Update" path="/exception"/>
    public Tensor Attend(Tensor queries, Tensor keys, Tensor values, int layer, int window = 0)
    {
        try
        {
            Append(keys, values, layer);
            Tensor output = _step.Attend(layer, queries, window);
            try
            {
                Advance();
            }
            catch
            {
                output.Dispose();
                throw;
            }

            return output;
        }
        catch
        {
            Abandon();
            throw;
        }
    }

    /// <summary>Undoes the pass under way, if there is one: the sequences are as before it.</summary>
    public void Abandon()
    {
        _step.Dispose();
        EndPass();
    }

    /// <summary>Cuts every sequence to its first tokens, after undoing a pass under way. See <see cref="KvSequence.Truncate"/>.</summary>
    /// <param name="length">Tokens to keep, at most <see cref="Length"/>.</param>
    /// <exception cref="ArgumentOutOfRangeException">Below 0, or more than there are.</exception>
    public void Truncate(int length)
    {
        Abandon();
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, Length);
        foreach (KvSequence sequence in _sequences)
        {
            sequence.Truncate(length);
        }
    }

    /// <summary>Forgets all tokens, after undoing a pass under way.</summary>
    public void Reset() => Truncate(0);

    /// <summary>Undoes a pass under way and disposes the sequences. The cache stays.</summary>
    public void Dispose()
    {
        Abandon();
        foreach (KvSequence? sequence in _sequences)
        {
            sequence?.Dispose();
        }
    }

    private void Append(Tensor keys, Tensor values, int layer)
    {
        var layout = TorchLayout.Of(keys, nameof(keys));
        if (layout.Batch != _sequences.Length)
        {
            throw TorchLayout.Refused(nameof(keys), $"{_sequences.Length} in the batch dimension", $"{layout.Batch}");
        }

        if (layer == 0)
        {
            Abandon();
            Begin((int)layout.Tokens);
        }
        else if (layer != _next || _next == 0)
        {
            throw new KvStepOrderException("KvTorchCache", $"layer {_next}", $"layer {layer}");
        }

        _step.Append(layer, keys, values);
        _next = layer + 1;
    }

    private void Begin(int tokens)
    {
        int all = checked(tokens * _sequences.Length);
        if (_ids.Length != all)
        {
            _ids = new int[all];
            Array.Fill(_ids, -1);
        }

        Array.Fill(_tokensPerSequence, tokens);
        _step = _cache.Begin(_sequences, _ids, _tokensPerSequence);
    }

    private void Advance()
    {
        if (_next == _cache.Geometry.Layers)
        {
            _step.Commit();
            EndPass();
        }
    }

    private void EndPass() => (_step, _next) = (default, 0);

    private (Tensor Keys, Tensor Values) ReadLayer(Tensor keys, Tensor values, int layer)
    {
        (TorchLayout k, TorchLayout v) = (TorchLayout.Of(keys, nameof(keys)), TorchLayout.Of(values, nameof(values)));
        int length = checked(Length + (int)k.Tokens);
        Tensor allKeys = TorchOutput.Dense(keys, k, length, k.Width), allValues = TorchOutput.Dense(values, v, length, v.Width);
        try
        {
            for (int i = 0; i < _sequences.Length; i++)
            {
                using Tensor keysOfOne = k.IsBatched ? allKeys[i] : allKeys.alias(), valuesOfOne = v.IsBatched ? allValues[i] : allValues.alias();
                int read = _step.ReadLayer(layer, i, TorchOutput.Wrap(keysOfOne, k), TorchOutput.Wrap(valuesOfOne, v));
                if (read != length)
                {
                    throw new KvUnsupportedException("KvTorchCache.Update", $"{length} tokens of layer {layer}", $"{read}, since a policy evicted the others");
                }
            }
        }
        catch
        {
            allKeys.Dispose();
            allValues.Dispose();
            throw;
        }

        return (TorchOutput.InLayout(allKeys, k), TorchOutput.InLayout(allValues, v));
    }
}
