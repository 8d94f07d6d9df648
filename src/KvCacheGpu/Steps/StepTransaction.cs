using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// One forward pass over a batch of sequences: reserve, append and attend by layer, seal and publish, or abandon. All or nothing: abandoned, it leaves
/// no trace. The object serves many steps, one after the other; who uses it for which is said by its <see cref="StepLease"/>.
/// </summary>
/// <remarks>
/// <code>
/// Open:    under the pool's gate: fits? take slots, list pages | copy replaced tails | begin the batch
/// Enqueue: score | write sealed pages | finish the batch; nothing waits
/// Outcome: wait for the batch: refused elements, errors of the device, pages that were kept
/// Publish: under the pool's gate: list sealed pages, reach the new length, publish blocks | policy
/// Abandon: end the batch | under the pool's gate: take the pages out of the rows, put replaced tails back, release slots
/// </code>
/// A commit is the middle three, one after the other, or with any time between the first and the others: then the step keeps its sequences until they come.
/// </remarks>
internal sealed class StepTransaction
{
    private readonly CacheState _cache;
    private readonly Pressure? _pressure;
    private readonly StepPages[] _pages;
    private readonly RaggedSequence[] _ragged;
    private readonly LayerSet _attended;
    private readonly StepScores _scores;
    private StepMemory? _memory;
    private bool _isSample;
    private bool _isEnqueued;
    private long _began;

    public StepTransaction(CacheState cache, Pressure? pressure)
    {
        (_cache, _pressure) = (cache, pressure);
        int most = cache.Options.MostBatched;
        (Members, _pages, _ragged) = (new StepMembers(most), new StepPages[most], new RaggedSequence[most]);
        (_attended, _scores) = (new LayerSet(cache.Geometry.Layers), new StepScores(cache, pressure?.Evictor.Memory, Members));
    }

    /// <summary>The sequences: entered before the step opens, left by the step when it ends or does not open.</summary>
    public StepMembers Members { get; }

    /// <summary>The working memory of the step that is under way; null if none is.</summary>
    public StepMemory? Memory => _memory;

    /// <summary>Tokens of the step, over all its sequences.</summary>
    public int Tokens { get; private set; }

    /// <summary>Layers that were appended, from the first on; while a step is captured, those that its graph appends too.</summary>
    public int Appended { get; set; }

    /// <summary>True if the policy looks at the step's queries by launches that depend on the length of its sequences.</summary>
    public bool IsObserved => _scores.IsPrefill;

    private ReadOnlySpan<SequenceState> Sequences => Members.Sequences;

    private ReadOnlySpan<RaggedSequence> Ragged => _ragged.AsSpan(0, Members.Count);

    /// <summary>Reserves all that a step takes, or refuses and changes nothing. The sequences are the caller's; they are left if the step does not open.</summary>
    /// <param name="tokenIds">Ids of the tokens, the first sequence's first.</param>
    /// <param name="tokensPerSequence">Tokens of each sequence; they were checked (<see cref="StepDemand.ThrowIfMalformed"/>).</param>
    /// <param name="stream">The stream of the step's work; it was checked.</param>
    /// <returns>Null, or what is missing.</returns>
    public KvShortage? Open(ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, KvStream stream)
    {
        StepMemory? memory = null;
        _began = Durations.Begin(Durations.Step);
        try
        {
            if (Reserve(tokensPerSequence, out memory) is { } shortage)
            {
                return shortage;
            }
        }
        finally
        {
            if (memory is null)
            {
                Members.Leave();
            }
        }

        try
        {
            Begin(memory!, tokenIds, tokensPerSequence, stream);
        }
        catch
        {
            RollBack(memory!);
            throw;
        }

        (_memory, Tokens, Appended) = (memory, tokenIds.Length, 0);
        _attended.Clear();
        return null;
    }

    /// <summary>Attends, with what comes back from host memory.</summary>
    public void Attend(StepMemory memory, int layer, KvTensor queries, KvOutput output, int window) =>
        new StagedAttention(_cache, Sequences, Ragged, layer).Attend(memory.Batch, queries, output, window);

    /// <summary>Shows the policy the queries of a layer and the output that they got; what lies on the device it does not see.</summary>
    public void Show(StepMemory memory, int layer, KvTensor queries, KvOutput output) => _scores.See(memory, Ragged, layer, queries, output);

    /// <summary>Notes that a layer was attended to, with a window or 0.</summary>
    public void NoteAttended(int layer, int window)
    {
        _attended.Add(layer);
        _cache.Scaling?.NoteQueries(layer, Tokens);
        _cache.NoteWindow(layer, window);
    }

    /// <summary>True from <see cref="Defer"/> on: the step is committed as far as its host goes, and its outcome is not known.</summary>
    public bool IsEnqueued => Volatile.Read(ref _isEnqueued);

    /// <summary>Enqueues all that a commit has the device do; nothing but <see cref="Outcome"/> or <see cref="Abandon"/> follows. If it throws, the step has ended without a trace.</summary>
    public void Enqueue(StepMemory memory)
    {
        try
        {
            _isSample = _cache.IsSampled && _attended.Any;
            if (_isSample)
            {
                memory.Batch.Score(_cache.Options.Policy!.Decay, (int)_cache.Clock.NextStep + 1);
            }

            for (int i = 0; i < Members.Count; i++)
            {
                _pages[i].BindScales(_cache, Sequences[i]);
                _pages[i].AddSeals(_cache, i, memory);
            }

            _cache.Writer.Seal(memory.Seals, memory.Batch);
            memory.Batch.Finish();
        }
        catch
        {
            RollBack(memory);
            throw;
        }
    }

    /// <summary>Leaves the outcome for later. Until then the sequences count its tokens, and stay the step's.</summary>
    public void Defer()
    {
        Members.Defer();
        Volatile.Write(ref _isEnqueued, true);
    }

    /// <summary>Waits for what <see cref="Enqueue"/> has left to the device. If it throws, the step has ended without a trace.</summary>
    /// <returns>Null if the step may be published; else the error for its host, and the step is to be abandoned.</returns>
    public KvNonFiniteException? Outcome(StepMemory memory)
    {
        try
        {
            return WaitForOutcome(memory);
        }
        catch
        {
            RollBack(memory);
            throw;
        }
    }

    /// <summary>Makes the step's tokens part of the sequences, and ends the step.</summary>
    public void Publish(StepMemory memory)
    {
        bool listed = false;
        try
        {
            List(memory, ref listed);
            _scores.Join(_isSample);
            long step = _cache.Clock.CountStep();
            _pressure?.AfterStep(Sequences, step, memory.Seals.Length > 0);
            Durations.End(Durations.Step, _began, _cache.Counts.Own);
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

    /// <summary>
    /// Takes over the outcome of a step that was left for later. A step that was refused, or that the device failed, is rolled back, and its sequences know
    /// why: who settles it may have nothing to do with them.
    /// </summary>
    public void Settle(StepMemory memory)
    {
        Exception? failure;
        try
        {
            failure = WaitForOutcome(memory);
        }
        catch (Exception e)
        {
            failure = e;
        }

        if (failure is null)
        {
            Publish(memory);
            return;
        }

        Members.Fail(failure);
        RollBack(memory);
    }

    /// <summary>Ends the step without a trace.</summary>
    public void Abandon(StepMemory memory)
    {
        try
        {
            // Launches may still write into the pages that are given back: wait for them. What they refused is of no interest any longer.
            _ = memory.Batch.End();
        }
        catch (ObjectDisposedException)
        {
            // The host has disposed the accelerator: it has ended them.
        }
        finally
        {
            RollBack(memory);
        }
    }

    private KvNonFiniteException? WaitForOutcome(StepMemory memory)
    {
        if (memory.Batch.End() is { } refused)
        {
            _scores.Repair(_isSample || (_cache.Writer.WritesSquares && !memory.Seals.IsEmpty));
            uint from = refused.IsValue ? _cache.Tier.Shape.ValueRefusedFrom : _cache.Tier.Shape.KeyRefusedFrom;
            return new KvNonFiniteException(refused.Layer, refused.Token, refused.Head, refused.IsValue, BitConverter.UInt32BitsToSingle(from));
        }

        PageWriter.TakeOutcomes(memory.Seals, memory.Batch);
        return null;
    }

    private KvShortage? Reserve(ReadOnlySpan<int> tokensPerSequence, out StepMemory? memory)
    {
        _cache.Unsettled.SettleBeyondMost();
        ForgottenSequences.Reclaim(_cache);
        for (int round = 0; ;)
        {
            if (TryReserve(tokensPerSequence, out memory) is { } shortage)
            {
                // Steps that wait for their outcome hold pages twice, working memory, and sequences that were forgotten.
                if (_cache.Unsettled.SettleAll())
                {
                    ForgottenSequences.Reclaim(_cache);
                }
                else if (_pressure?.MakeWay(Sequences, shortage, round++) != true)
                {
                    return shortage;
                }
            }
            else if (memory is not null)
            {
                return null;
            }
            else
            {
                _cache.Room.WaitForReads();
            }
        }
    }

    // Neither a shortage nor memory: a read has the last of it for a moment.
    private KvShortage? TryReserve(ReadOnlySpan<int> tokensPerSequence, out StepMemory? memory)
    {
        using (_cache.Pool.Gate.Enter())
        {
            memory = null;
            if (StepDemand.WhyNot(_cache, Sequences, tokensPerSequence, out Want need) is { } shortage)
            {
                return shortage;
            }

            memory = _cache.Room.TakeForStep(need);
            if (memory is null)
            {
                return null;
            }

            try
            {
                for (int i = 0; i < Members.Count; i++)
                {
                    Sequences[i].StepTokens = tokensPerSequence[i];
                    _pages[i].Grow(_cache, Sequences[i], i, tokensPerSequence[i], memory);
                }
            }
            catch
            {
                Undo(memory);
                memory.Clear();
                _cache.Room.Return(memory);
                memory = null;
                throw;
            }

            return null;
        }
    }

    private void Begin(StepMemory memory, ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, KvStream stream)
    {
        _cache.Writer.CopyTails(memory.Tails);
        _scores.Begin(tokensPerSequence);
        int first = 0;
        for (int i = 0; i < Members.Count; i++)
        {
            (PageTable table, int tokens) = (Sequences[i].Table, tokensPerSequence[i]);
            _ragged[i] = new RaggedSequence(table.Sequence, first, tokens, table.Length + tokens, KeyTable: Math.Max(table.KeyTable, 0));
            Sequences[i].HoldTokenIds(tokenIds.Slice(first, tokens));
            first += tokens;
        }

        memory.Batch.Begin(Ragged, stream);
    }

    private void List(StepMemory memory, ref bool listed)
    {
        using (_cache.Pool.Gate.Enter())
        {
            // Once tables list what the step took, undoing it would give the same slots back twice.
            listed = true;
            _cache.Counts.CountStep(Tokens);
            foreach (ref readonly ReplacedTail tail in memory.Tails)
            {
                _cache.Pool.Release(tail.Source);
            }

            foreach (ref readonly SealedPage page in memory.Seals)
            {
                _pages[page.Sequence].List(_cache, page);
            }

            for (int i = 0; i < Members.Count; i++)
            {
                _pages[i].Reach(_cache.Classes.Seals);
                (Sequences[i].StepTokens, Sequences[i].EnqueuedLength) = (0, 0);
                Sequences[i].Attended.CopyFrom(_attended);
            }

            // Blocks once all tables are whole.
            Members.PublishBlocks();
        }
    }

    private void RollBack(StepMemory memory)
    {
        try
        {
            Undo(memory);
        }
        finally
        {
            End(memory);
        }
    }

    private void Undo(StepMemory memory)
    {
        using (_cache.Pool.Gate.Enter())
        {
            for (int i = 0; i < Members.Count; i++)
            {
                SequenceState sequence = Sequences[i];
                (sequence.StepTokens, sequence.EnqueuedLength) = (0, 0);
                _pages[i].Shrink(_cache, sequence);
                sequence.Attended.Clear();
                sequence.Scores?.Forget();
            }

            Members.PutBack(memory.Tails);
            _cache.Pool.Release(memory.Taken);
        }
    }

    private void End(StepMemory memory)
    {
        memory.Clear();
        _memory = null;
        Volatile.Write(ref _isEnqueued, false);
        using (_cache.Pool.Gate.Enter())
        {
            _cache.Room.Return(memory);
        }

        _pages.AsSpan(0, Members.Count).Clear();
        Members.Leave();
    }
}
