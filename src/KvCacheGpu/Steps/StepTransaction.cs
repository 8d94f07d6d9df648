using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// One forward pass over a batch of sequences: reserve, append and attend by layer, seal and publish, or abandon. All or nothing: abandoned, it leaves
/// no trace. The object is used again for later steps of the same sequences.
/// </summary>
/// <remarks>
/// <code>
/// Open:    sequences' gates, then under the pool's gate: fits? take slots, list pages | copy replaced tails | begin the batch
/// Commit:  score | end the batch: device errors | write sealed pages | under the pool's gate: list them, reach the new length, publish blocks | policy
/// Abandon: end the batch | under the pool's gate: take the pages out of the rows, put replaced tails back, release slots
/// </code>
/// </remarks>
internal sealed class StepTransaction : ISequenceHolder
{
    private readonly CacheState _cache;
    private readonly Pressure? _pressure;
    private readonly SequenceState[] _sequences;
    private readonly StepPages[] _pages;
    private readonly RaggedSequence[] _ragged;
    private readonly LayerSet _attended;
    private readonly StepScores _scores;
    private StepMemory? _memory;

    public StepTransaction(CacheState cache, Pressure? pressure, SequenceState[] sequences)
    {
        (_cache, _pressure, _sequences) = (cache, pressure, sequences);
        _pages = new StepPages[sequences.Length];
        _ragged = new RaggedSequence[sequences.Length];
        _attended = new LayerSet(cache.Geometry.Layers);
        _scores = new StepScores(cache, pressure?.Evictor.Memory, sequences);
    }

    /// <summary>Who is inside of the step.</summary>
    public StepGate Gate { get; } = new();

    /// <summary>Tokens of the step, over all its sequences.</summary>
    public int Tokens { get; private set; }

    /// <summary>Layers that were appended, from the first on.</summary>
    public int Appended { get; private set; }

    /// <summary>Reserves all that the step takes, or refuses and changes nothing.</summary>
    /// <param name="tokenIds">Ids of the tokens, the first sequence's first.</param>
    /// <param name="tokensPerSequence">Tokens of each sequence.</param>
    /// <param name="mayRefuse">True to return false, false to throw, if there is no room.</param>
    /// <returns>False if there is no room.</returns>
    /// <exception cref="KvOutOfMemoryException">E001: there is no room.</exception>
    /// <exception cref="KvConcurrencyException">E006: one of the sequences is in use.</exception>
    public bool Open(ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, bool mayRefuse)
    {
        StepDemand.ThrowIfMalformed(_cache.Options, tokenIds, tokensPerSequence, _sequences.Length);
        EnterSequences();

        // With the sequences the step is this thread's; a thread that disposes it meanwhile finds nothing to end, or waits until it is open.
        Gate.EnterNext(ends: false);
        try
        {
            return OpenHeld(tokenIds, tokensPerSequence, mayRefuse);
        }
        finally
        {
            Gate.Leave();
        }
    }

    /// <summary>Enters for a call on a step that is under way, until the call is disposed.</summary>
    /// <exception cref="ObjectDisposedException">The step has ended.</exception>
    public Call EnterForCall()
    {
        Gate.Enter();
        if (_memory is null)
        {
            Gate.Leave();
            throw new ObjectDisposedException("KvStep", "expected a step under way, got one that was committed or disposed");
        }

        return new Call(this, _memory);
    }

    /// <summary>Notes that a layer was appended.</summary>
    public void NoteAppended() => Appended++;

    /// <summary>Notes that a layer was attended to, and shows it to the policy.</summary>
    /// <param name="memory">The step's.</param>
    /// <param name="layer">Layer.</param>
    /// <param name="queries"><c>[tokens][query heads][key width]</c>.</param>
    /// <param name="output"><c>[tokens][query heads][value width]</c>; empty if it stays on the device.</param>
    /// <param name="window">The window, or 0.</param>
    public void NoteAttended(StepMemory memory, int layer, KvTensor queries, ReadOnlySpan<float> output, int window)
    {
        _scores.See(memory, _ragged, layer, queries, output);
        _attended.Add(layer);
        if (window > 0)
        {
            _cache.NoteWindow(layer);
        }
    }

    /// <exception cref="KvUnsupportedException">E009: a window over pages that were merged.</exception>
    public void ThrowIfWindowOverMerged(int layer, int window)
    {
        foreach (SequenceState sequence in _sequences)
        {
            AttentionRead.ThrowIfWindowOverMerged(sequence.Table, layer, window);
        }
    }

    /// <summary>Makes the step's tokens part of the sequences, and ends the step. The caller is inside of the step.</summary>
    /// <exception cref="KvNonFiniteException">E004: keys or values were not finite; the step is rolled back and has ended.</exception>
    public void Commit(StepMemory memory)
    {
        bool listed = false;
        try
        {
            bool isSample = _cache.IsSampled && _attended.Any;
            if (isSample)
            {
                memory.Batch.Score(_cache.Options.Policy!.Decay, (int)_cache.Clock.NextStep + 1);
            }

            if (memory.Batch.End() is { } refused)
            {
                _scores.Repair(isSample);
                KernelShape shape = _cache.Tier.Shape;
                uint refusedFrom = refused.IsValue ? shape.ValueRefusedFrom : shape.KeyRefusedFrom;
                throw new KvNonFiniteException(
                    refused.Layer, refused.Token, refused.Head, refused.IsValue, BitConverter.UInt32BitsToSingle(refusedFrom));
            }

            for (int i = 0; i < _sequences.Length; i++)
            {
                _pages[i].AddSeals(_cache, i, memory);
            }

            _cache.Writer.Seal(memory.Seals);
            List(memory, ref listed);
            _scores.Join(isSample);
            long step = _cache.Clock.CountStep();
            _pressure?.AfterStep(_sequences, step, memory.Seals.Length > 0);
        }
        finally
        {
            if (!listed)
            {
                Undo(memory);
            }

            End(memory);
        }
    }

    /// <inheritdoc/>
    public void ThrowIfInside() => Gate.ThrowIfInside();

    /// <inheritdoc/>
    public void Abandon()
    {
        ThrowIfInside();
        Gate.EnterNext(ends: true);
        try
        {
            if (_memory is { } memory)
            {
                try
                {
                    // Launches may still write into the pages that are given back: wait for them. What they refused is of no interest any longer.
                    _ = memory.Batch.End();
                }
                finally
                {
                    Undo(memory);
                    End(memory);
                }
            }
        }
        finally
        {
            Gate.Leave();
        }
    }

    private bool OpenHeld(ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, bool mayRefuse)
    {
        StepMemory? memory = null;
        try
        {
            memory = Reserve(tokensPerSequence, mayRefuse);
        }
        finally
        {
            if (memory is null)
            {
                LeaveSequences(_sequences.Length);
            }
        }

        if (memory is null)
        {
            return false;
        }

        try
        {
            Begin(memory, tokenIds, tokensPerSequence);
        }
        catch
        {
            Undo(memory);
            End(memory);
            throw;
        }

        (Tokens, Appended) = (tokenIds.Length, 0);
        _attended.Clear();
        _memory = memory;
        return true;
    }

    private StepMemory? Reserve(ReadOnlySpan<int> tokensPerSequence, bool mayRefuse)
    {
        int round = 0;
        ForgottenSequences.Reclaim(_cache);
        while (true)
        {
            if (TryReserve(tokensPerSequence, out StepMemory? memory) is { } refusal)
            {
                if (_pressure?.MakeWay(_sequences, refusal, round++) != true)
                {
                    return mayRefuse ? null : throw refusal.ToException();
                }
            }
            else if (memory is not null)
            {
                return memory;
            }
            else
            {
                _cache.Room.WaitForReads();
            }
        }
    }

    // Neither a refusal nor memory: a read has the last of it for a moment.
    private Refusal? TryReserve(ReadOnlySpan<int> tokensPerSequence, out StepMemory? memory)
    {
        using (_cache.Pool.Gate.Enter())
        {
            memory = null;
            if (StepDemand.WhyNot(_cache, _sequences, tokensPerSequence, out SlotCounts need) is { } refusal)
            {
                return refusal;
            }

            memory = _cache.Room.TakeForStep(need);
            if (memory is null)
            {
                return null;
            }

            try
            {
                for (int i = 0; i < _sequences.Length; i++)
                {
                    _pages[i].Grow(_cache, _sequences[i].Table, i, tokensPerSequence[i], memory);
                }
            }
            catch
            {
                Undo(memory);
                memory.Clear();
                _cache.Room.Return(memory);
                throw;
            }

            return null;
        }
    }

    private void Begin(StepMemory memory, ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence)
    {
        _cache.Writer.CopyTails(memory.Tails);
        _scores.Begin(tokensPerSequence);
        int first = 0;
        for (int i = 0; i < _sequences.Length; i++)
        {
            (PageTable table, int tokens) = (_sequences[i].Table, tokensPerSequence[i]);
            _ragged[i] = new RaggedSequence(table.Sequence, first, tokens, table.Length + tokens);
            _sequences[i].HoldTokenIds(tokenIds.Slice(first, tokens));
            first += tokens;
        }

        memory.Batch.Begin(_ragged);
    }

    private void List(StepMemory memory, ref bool listed)
    {
        using (_cache.Pool.Gate.Enter())
        {
            // Once tables list what the step took, undoing it would give the same slots back twice.
            listed = true;
            foreach (ref readonly ReplacedTail tail in memory.Tails)
            {
                _cache.Pool.Release(tail.Source);
            }

            foreach (ref readonly SealedPage page in memory.Seals)
            {
                _pages[page.Sequence].List(_cache, page);
            }

            for (int i = 0; i < _sequences.Length; i++)
            {
                _pages[i].Reach(_cache.Geometry.PageTokens);
                _sequences[i].Attended.CopyFrom(_attended);
            }

            // Blocks once all tables are whole.
            foreach (SequenceState sequence in _sequences)
            {
                sequence.Chain?.Publish(sequence.TokenIds, sequence.Table);
            }
        }
    }

    private void Undo(StepMemory memory)
    {
        using (_cache.Pool.Gate.Enter())
        {
            for (int i = 0; i < _sequences.Length; i++)
            {
                SequenceState sequence = _sequences[i];
                _pages[i].Shrink(sequence.Table);
                sequence.Attended.Clear();
                sequence.Scores?.Forget();
            }

            foreach (ref readonly ReplacedTail tail in memory.Tails)
            {
                PageTable table = _sequences[tail.Sequence].Table;
                table.Relist(tail.Row, table.Count(tail.Row) - 1, tail.Source, tail.Class);
            }

            _cache.Pool.Release(memory.Taken);
        }
    }

    private void End(StepMemory memory)
    {
        memory.Clear();
        _memory = null;
        using (_cache.Pool.Gate.Enter())
        {
            _cache.Room.Return(memory);
        }

        LeaveSequences(_sequences.Length);
    }

    private void EnterSequences()
    {
        int entered = 0;
        try
        {
            for (; entered < _sequences.Length; entered++)
            {
                _sequences[entered].Gate.EnterStep();
                _sequences[entered].Holder = this;
            }
        }
        catch
        {
            LeaveSequences(entered);
            throw;
        }
    }

    private void LeaveSequences(int entered)
    {
        for (int i = 0; i < entered; i++)
        {
            _sequences[i].Holder = null;
            _sequences[i].Gate.Leave();
        }
    }

    /// <summary>Being inside of a step that is under way.</summary>
    public readonly ref struct Call(StepTransaction step, StepMemory memory)
    {
        public StepMemory Memory => memory;

        public void Dispose() => step.Gate.Leave();
    }
}
