using System.Buffers;

namespace KvCacheGpu;

/// <summary>Attention to many sequences of a cache at once, outside of steps. Thread safety: as that of <see cref="KvSequence"/>.</summary>
public static class KvCacheReading
{
    /// <summary>
    /// Attends to the tokens that a layer holds of each sequence, in one launch, and leaves no trace: <see cref="KvSequence.Attend"/> of them all. For decoders
    /// that attend to encoders' keys and values, and for layers that share another layer's.
    /// </summary>
    /// <param name="cache">The cache.</param>
    /// <param name="sequences">Sequences of this cache, each once; at most <see cref="KvCacheOptions.MaxSequences"/>.</param>
    /// <param name="layer">Layer.</param>
    /// <param name="queries">
    /// <c>[queries][query heads][key width]</c>, the first sequence's first; roped by the host, and scaled inside by <see cref="KvGeometry.AttentionScale"/>. At most
    /// <see cref="KvCacheOptions.MaxBatchTokens"/>, and of no sequence more than it has tokens. All work is enqueued on their stream (<see cref="KvTensor.Stream"/>),
    /// and an output on the device is ready there.
    /// </param>
    /// <param name="output">Receives <c>[queries][query heads][value width]</c>, and if it is wanted the natural log-sum-exp of each <c>[query][query head]</c>.</param>
    /// <param name="queriesPerSequence">Queries of each sequence; empty, the default, is one each.</param>
    /// <param name="window">A query sees its own place and the <c>window - 1</c> positions before it. The default value is 0: all before it.</param>
    /// <exception cref="ArgumentException">No sequence, one of another cache, a count that does not fit, no such layer, or a tensor or target of another shape; or a sequence is there twice, or has no tokens.</exception>
    /// <exception cref="KvConcurrencyException">E006: one of the sequences is in use.</exception>
    /// <inheritdoc cref="KvSequence.Attend" path="/exception[@cref='T:KvCacheGpu.KvOutOfMemoryException' or @cref='T:KvCacheGpu.KvUnsupportedException']"/>
    public static void Attend(
        this KvCache cache,
        ReadOnlySpan<KvSequence> sequences,
        int layer,
        KvTensor queries,
        KvOutput output,
        ReadOnlySpan<int> queriesPerSequence = default,
        int window = 0)
    {
        ArgumentNullException.ThrowIfNull(cache);
        ArgumentOutOfRangeException.ThrowIfZero(sequences.Length, nameof(sequences));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(sequences.Length, cache.State.Options.MostBatched, nameof(sequences));
        if (!queriesPerSequence.IsEmpty && queriesPerSequence.Length != sequences.Length)
        {
            throw new ArgumentException($"expected a count for each of {sequences.Length} sequences, got {queriesPerSequence.Length}", nameof(queriesPerSequence));
        }

        SequenceState[] states = ArrayPool<SequenceState>.Shared.Rent(sequences.Length);
        using var ones = new Pooled<int>(sequences.Length);
        ones.Span.Fill(1);
        int entered = 0;
        try
        {
            for (; entered < sequences.Length; entered++)
            {
                KvSequence sequence = sequences[entered] ?? throw new ArgumentNullException(nameof(sequences));
                states[entered] = sequence.Cache == cache
                    ? sequence.State
                    : throw new ArgumentException($"expected sequences of this cache, got one of another at {entered}", nameof(sequences));
                sequence.State.Settle();
                sequence.State.Gate.EnterCall();
                GC.KeepAlive(sequence);
            }

            new AttentionRead(
                cache.State, states.AsSpan(0, entered), queriesPerSequence.IsEmpty ? ones.Span : queriesPerSequence, layer, queries, window, counts: false).Run(output);
        }
        catch (KvConcurrencyException) when (entered < sequences.Length && states.AsSpan(0, entered).Contains(sequences[entered].State))
        {
            throw new ArgumentException($"expected each sequence once, got one again at {entered}", nameof(sequences));
        }
        finally
        {
            foreach (SequenceState sequence in states.AsSpan(0, entered))
            {
                sequence.Gate.Leave();
            }

            ArrayPool<SequenceState>.Shared.Return(states, clearArray: true);
        }
    }
}
