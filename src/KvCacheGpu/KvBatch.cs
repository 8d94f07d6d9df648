using System.Diagnostics.CodeAnalysis;

namespace KvCacheGpu;

/// <summary>Sequences that step together: one launch per layer for all of them. Owns no sequence.</summary>
public sealed class KvBatch : IDisposable
{
    private readonly KvCache _cache;
    private readonly KvSequence[] _sequences;
    private readonly SequenceState[] _states;
    private readonly KvStep _step;
    private volatile bool _disposed;

    internal KvBatch(KvCache cache, KvSequence[] sequences)
    {
        (_cache, _sequences) = (cache, sequences);
        _states = Array.ConvertAll(sequences, sequence => sequence.State);
        _step = new KvStep(cache, _states);
    }

    /// <summary>The sequences, in the order of their tokens in a step.</summary>
    public IReadOnlyList<KvSequence> Sequences => _sequences;

    /// <summary>Returns true if a step could begin now, as far as memory goes. False if a sequence has 0 tokens.</summary>
    /// <param name="tokensPerSequence">Tokens of each sequence.</param>
    /// <exception cref="ArgumentException">Not one count per sequence.</exception>
    /// <exception cref="KvConcurrencyException">E006: one of the sequences is in use.</exception>
    public bool CanAppend(ReadOnlySpan<int> tokensPerSequence)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        StepDemand.ThrowIfNotOneEach(tokensPerSequence.Length, _states.Length);
        int entered = 0;
        try
        {
            for (; entered < _states.Length; entered++)
            {
                _states[entered].Gate.EnterCall();
            }

            return StepDemand.CouldOpen(_cache.State, _cache.Pressure, _states, tokensPerSequence);
        }
        finally
        {
            foreach (SequenceState sequence in _states.AsSpan(0, entered))
            {
                sequence.Gate.Leave();
            }
        }
    }

    /// <summary>Begins a step over all sequences, and reserves all that it takes.</summary>
    /// <param name="tokenIds">Ids of the tokens, the first sequence's first; <see cref="KvCacheOptions.MaxBatchTokens"/> at most.</param>
    /// <param name="tokensPerSequence">Tokens of each sequence, at least 1 each.</param>
    /// <returns>The step; the same object each time, valid until it is committed or disposed.</returns>
    /// <exception cref="KvOutOfMemoryException">E001: no room for all, also after the policy evicted what it may; the tokens have changed no sequence.</exception>
    /// <exception cref="KvConcurrencyException">E006: one of the sequences is in use.</exception>
    /// <exception cref="ArgumentException">The counts do not fit the sequences or the ids, or are too many for one step.</exception>
    public KvStep Begin(ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence)
    {
        Open(tokenIds, tokensPerSequence, mayRefuse: false);
        return _step;
    }

    /// <summary>Begins a step if there is room for it. See <see cref="Begin"/>.</summary>
    /// <returns>False where <see cref="Begin"/> would throw <see cref="KvOutOfMemoryException"/>.</returns>
    public bool TryBegin(ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, [NotNullWhen(true)] out KvStep? step)
    {
        step = Open(tokenIds, tokensPerSequence, mayRefuse: true) ? _step : null;
        return step is not null;
    }

    /// <summary>
    /// Ends the batch; a step under way is abandoned, after a call on it of another thread that is inside. The sequences live on.
    /// </summary>
    /// <exception cref="KvConcurrencyException">E006: called from inside of a call on the step, as a policy could; nothing was disposed.</exception>
    public void Dispose()
    {
        _step.Transaction.ThrowIfInside();
        _disposed = true;
        _step.Dispose();
    }

    private bool Open(ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, bool mayRefuse)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        bool isOpen = _step.Transaction.Open(tokenIds, tokensPerSequence, mayRefuse);
        GC.KeepAlive(this);
        if (_disposed)
        {
            // Disposed while it opened: nobody would end it.
            _step.Dispose();
            throw new ObjectDisposedException(nameof(KvBatch));
        }

        return isOpen;
    }
}
