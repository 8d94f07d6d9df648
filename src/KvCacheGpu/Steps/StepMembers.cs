using System.Runtime.ExceptionServices;

namespace KvCacheGpu;

/// <summary>The sequences of one step, in the order of its tokens. They are entered together, or none is.</summary>
/// <param name="most">The most sequences that a step has.</param>
internal sealed class StepMembers(int most)
{
    private readonly SequenceState[] _sequences = new SequenceState[most];

    /// <summary>How many there are.</summary>
    public int Count { get; private set; }

    /// <summary>The sequences.</summary>
    public Span<SequenceState> Sequences => _sequences.AsSpan(0, Count);

    /// <summary>The error about a disposed sequence. It names the place if there are several.</summary>
    public static ObjectDisposedException DisposedAt(int place, int sequences) => new(
        "KvSequence", sequences == 1 ? "expected a live sequence, got one that was disposed" : $"expected live sequences, got one at {place} that was disposed");

    /// <summary>Makes place for sequences, at most <see cref="KvCacheOptions.MostBatched"/>.</summary>
    /// <returns>Receives them.</returns>
    public Span<SequenceState> Take(int sequences)
    {
        Count = sequences;
        return Sequences;
    }

    /// <summary>Enters all sequences, or throws and has entered none.</summary>
    /// <param name="isStep">True for a step, false for one call.</param>
    /// <exception cref="ArgumentException">A sequence is there twice.</exception>
    /// <exception cref="ObjectDisposedException">One of the sequences was disposed.</exception>
    /// <exception cref="KvConcurrencyException">E006: one of the sequences is in use.</exception>
    /// <exception cref="KvNonFiniteException">E004: a step on one of the sequences that was committed without waiting has been refused.</exception>
    public void Enter(bool isStep)
    {
        Settle();
        int entered = 0;
        try
        {
            for (; entered < Count; entered++)
            {
                EnterAt(entered, isStep);
            }
        }
        catch
        {
            Leave(entered);
            throw;
        }
    }

    // Tells of a step that failed once for all of its sequences that are here.
    private void Settle()
    {
        Exception? failure = null;
        foreach (SequenceState sequence in Sequences)
        {
            sequence.Holder?.Settle(sequence);
            if (sequence.Failure is { } found && (failure ?? found) == found && sequence.TakeFailure(found))
            {
                failure = found;
            }
        }

        if (failure is not null)
        {
            ExceptionDispatchInfo.Throw(failure);
        }
    }

    /// <summary>Says who has the sequences. The caller is inside of the holder's gate.</summary>
    public void HoldBy(ISequenceHolder holder)
    {
        foreach (SequenceState sequence in Sequences)
        {
            sequence.Holder = holder;
        }
    }

    /// <summary>Counts the step's tokens for the host, while its outcome is not known.</summary>
    public void Defer()
    {
        foreach (SequenceState sequence in Sequences)
        {
            sequence.EnqueuedLength = sequence.Length + sequence.StepTokens;
        }
    }

    /// <summary>Says why the step is rolled back, to whoever needs one of the sequences next.</summary>
    public void Fail(Exception failure)
    {
        foreach (SequenceState sequence in Sequences)
        {
            sequence.Fail(failure);
        }
    }

    /// <summary>Lists the pages again that copies had taken the place of. The caller is inside of the pool's gate.</summary>
    public void PutBack(ReadOnlySpan<ReplacedTail> tails)
    {
        foreach (ref readonly ReplacedTail tail in tails)
        {
            PageTable table = Sequences[tail.Sequence].Table;
            table.Relist(tail.Row, table.Count(tail.Row) - 1, tail.Source, tail.Class);
        }
    }

    /// <summary>Makes the sequences' blocks findable. The caller is inside of the pool's gate.</summary>
    public void PublishBlocks()
    {
        foreach (SequenceState sequence in Sequences)
        {
            sequence.Chain?.Publish(sequence.TokenIds, sequence.Table);
        }
    }

    /// <summary>Leaves all sequences.</summary>
    public void Leave() => Leave(Count);

    /// <summary>Forgets the sequences, so that nothing keeps those alive that are disposed.</summary>
    public void Clear()
    {
        Sequences.Clear();
        Count = 0;
    }

    private void EnterAt(int place, bool isStep)
    {
        SequenceState sequence = _sequences[place];
        try
        {
            if (isStep)
            {
                sequence.Gate.EnterStep();
            }
            else
            {
                sequence.Gate.EnterCall();
            }
        }
        catch (ObjectDisposedException)
        {
            throw DisposedAt(place, Count);
        }
        catch (KvConcurrencyException e) when (Count > 1)
        {
            // One that is there twice is in use by this very step.
            throw _sequences.AsSpan(0, place).Contains(sequence)
                ? new ArgumentException($"expected each sequence once, got one again at {place}")
                : new KvConcurrencyException($"sequence at {place} in use", e.Expected, e.Actual) { Sequence = sequence.Name };
        }
    }

    private void Leave(int entered)
    {
        foreach (SequenceState sequence in _sequences.AsSpan(0, entered))
        {
            sequence.Holder = null;
            sequence.Gate.Leave();
        }
    }
}
