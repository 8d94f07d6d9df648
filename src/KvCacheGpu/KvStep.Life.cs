using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>How a step begins and ends.</content>
public sealed partial class KvStep
{
    /// <summary>Publishes the step: its tokens become part of the sequences; pages left a page behind are sealed; the policy drops.</summary>
    /// <exception cref="KvNonFiniteException">E004: keys or values were not finite; the step is rolled back and has ended.</exception>
    /// <exception cref="KvStepOrderException">E010: layers are missing; the step goes on.</exception>
    public void Commit()
    {
        using Call call = new(this);
        StepMemory memory = call.Memory;
        if (_appended != _cache.Geometry.Layers)
        {
            throw new KvStepOrderException("Commit", $"{_cache.Geometry.Layers} layers appended", $"{_appended}");
        }

        bool published = false;
        try
        {
            bool isSample = _cache.IsSampled && _attended.Any;
            if (isSample)
            {
                memory.Batch.Score(_cache.Settings.Policy!.Decay, (int)_cache.NextStep + 1);
            }

            if (memory.Batch.End() is { } refused)
            {
                RepairScores(isSample);
                KernelShape shape = _cache.Tier.Shape;
                uint refusedFrom = refused.IsValue ? shape.ValueRefusedFrom : shape.KeyRefusedFrom;
                throw new KvNonFiniteException(
                    refused.Layer, refused.Token, refused.Head, refused.IsValue, BitConverter.UInt32BitsToSingle(refusedFrom));
            }

            foreach (KvSequence sequence in _sequences)
            {
                sequence.Table.EncodeSeals(memory);
            }

            memory.CarryOut();
            Publish(memory, ref published);
            foreach (KvSequence sequence in _sequences)
            {
                sequence.Scores?.Publish(isSample);
            }

            _cache.AfterStep(_sequences, memory.HasSeals);
        }
        finally
        {
            if (!published)
            {
                Undo(memory, _sequences.Length);
            }

            End(memory);
        }
    }

    /// <summary>
    /// Ends the step, after a call of another thread that is inside; if it was not committed, every sequence is as before it began. Calls that come
    /// later throw <see cref="ObjectDisposedException"/>.
    /// </summary>
    /// <exception cref="KvConcurrencyException">E006: called from inside of a call on the step, as a policy could; the step goes on.</exception>
    public void Dispose()
    {
        ThrowIfInside();
        EnterNext(-Environment.CurrentManagedThreadId);
        try
        {
            if (_memory is { } memory)
            {
                try
                {
                    // Launches may still write into the pages that are given back.
                    _ = memory.Batch.End();
                }
                finally
                {
                    Undo(memory, _sequences.Length);
                    End(memory);
                }
            }
        }
        finally
        {
            Leave();
        }
    }

    /// <summary>Refuses to dispose what the calling thread is inside of: it would wait for itself.</summary>
    internal void ThrowIfInside()
    {
        if (Volatile.Read(ref _inUse) == Environment.CurrentManagedThreadId)
        {
            throw new KvConcurrencyException("step in use", "Dispose after the call that is under way", "Dispose from inside of it");
        }
    }

    internal static void ThrowIfNotOneEach(int tokensPerSequence, int sequences)
    {
        if (tokensPerSequence != sequences)
        {
            throw new ArgumentException($"expected one token count for each of {sequences} sequences, got {tokensPerSequence}", nameof(tokensPerSequence));
        }
    }

    /// <summary>Reserves, or refuses and changes nothing.</summary>
    /// <returns>False where there is no room and <paramref name="mayRefuse"/> is set.</returns>
    internal bool Open(ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, bool mayRefuse)
    {
        ThrowIfNotStepped(tokenIds, tokensPerSequence);
        EnterSequences();

        // With the sequences the step is this thread's; who disposes it meanwhile finds nothing to end, or waits until it is open.
        EnterNext(Environment.CurrentManagedThreadId);
        try
        {
            return OpenHeld(tokenIds, tokensPerSequence, mayRefuse);
        }
        finally
        {
            Leave();
        }
    }

    private bool OpenHeld(ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, bool mayRefuse)
    {
        StepMemory? memory = null;
        try
        {
            memory = Reserve(tokensPerSequence, mayRefuse);
            if (memory is null)
            {
                LeaveSequences(_sequences.Length);
                return false;
            }
        }
        catch
        {
            LeaveSequences(_sequences.Length);
            throw;
        }

        try
        {
            memory.CopyReplaced();
            BeginScores(tokensPerSequence);
            int first = 0;
            for (int i = 0; i < _sequences.Length; i++)
            {
                (PageTable table, int tokens) = (_sequences[i].Table, tokensPerSequence[i]);
                _ragged[i] = new RaggedSequence(table.Sequence, first, tokens, table.Length + tokens);
                _sequences[i].HoldTokens(tokenIds.Slice(first, tokens));
                first += tokens;
            }

            memory.Batch.Begin(_ragged);
        }
        catch
        {
            Undo(memory, _sequences.Length);
            End(memory);
            throw;
        }

        (Tokens, _appended) = (tokenIds.Length, 0);
        _attended.Clear();
        _memory = memory;
        return true;
    }

    private StepMemory? Reserve(ReadOnlySpan<int> tokensPerSequence, bool mayRefuse)
    {
        int round = 0;
        while (true)
        {
            if (TryReserve(tokensPerSequence, out StepMemory? memory) is not { } refusal)
            {
                if (memory is not null)
                {
                    return memory;
                }

                _cache.WaitForReads();
                continue;
            }

            if (!_cache.MakeWay(_sequences, refusal, round++))
            {
                return mayRefuse ? null : throw refusal.ToException();
            }
        }
    }

    // Neither a refusal nor memory: a read has the last of it for a moment.
    private Refusal? TryReserve(ReadOnlySpan<int> tokensPerSequence, out StepMemory? memory)
    {
        lock (_cache.Pool.Gate)
        {
            memory = null;
            if (_cache.WhyNot(_sequences, tokensPerSequence, out SlotCounts need) is { } refusal)
            {
                return refusal;
            }

            if (_cache.MustWaitForReads)
            {
                return null;
            }

            _cache.MakeRoomForStep(need);
            memory = _cache.RentStepMemory();
            try
            {
                memory.Take(_cache.Pool, need);
                for (int i = 0; i < _sequences.Length; i++)
                {
                    _sequences[i].Table.Grow(tokensPerSequence[i], memory);
                }
            }
            catch
            {
                Undo(memory, _sequences.Length);
                memory.Clear();
                _cache.ReturnStepMemory(memory);
                throw;
            }

            return null;
        }
    }

    private void Publish(StepMemory memory, ref bool published)
    {
        lock (_cache.Pool.Gate)
        {
            // Once tables list what the step took, undoing it would give the same slots back twice.
            published = true;
            memory.ReleaseReplaced(_cache.Pool);
            foreach (KvSequence sequence in _sequences)
            {
                sequence.Table.Publish(memory);
                sequence.Attended(_attended);
            }

            foreach (KvSequence sequence in _sequences)
            {
                sequence.PublishBlocks();
            }
        }
    }

    private void Undo(StepMemory memory, int grown)
    {
        lock (_cache.Pool.Gate)
        {
            for (int i = 0; i < grown; i++)
            {
                _sequences[i].Table.Shrink();
                _sequences[i].ForgetAttended();
                _sequences[i].Scores?.Forget();
            }

            memory.Restore();
            _cache.Pool.Release(memory.Taken);
        }
    }

    private void End(StepMemory memory)
    {
        memory.Clear();
        _memory = null;
        lock (_cache.Pool.Gate)
        {
            _cache.ReturnStepMemory(memory);
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
                _sequences[entered].EnterStep(this);
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
            _sequences[i].LeaveStep();
        }
    }

    private void ThrowIfNotStepped(ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence)
    {
        ThrowIfNotOneEach(tokensPerSequence.Length, _sequences.Length);
        long sum = 0;
        foreach (int tokens in tokensPerSequence)
        {
            if (tokens < 1)
            {
                throw new ArgumentException($"expected at least 1 token for each sequence, got {tokens}", nameof(tokensPerSequence));
            }

            sum += tokens;
        }

        if (sum != tokenIds.Length)
        {
            throw new ArgumentException($"expected {sum} token ids, as the sequences' counts add up to, got {tokenIds.Length}", nameof(tokenIds));
        }

        if (sum > _cache.Settings.MaxBatchTokens)
        {
            throw new ArgumentException($"expected at most {_cache.Settings.MaxBatchTokens} tokens in one step, got {sum}", nameof(tokenIds));
        }
    }

    // Of who disposes, and of who opens: waits for the call that is inside.
    private void EnterNext(int use)
    {
        var wait = default(SpinWait);
        while (Interlocked.CompareExchange(ref _inUse, use, 0) != 0)
        {
            wait.SpinOnce();
        }
    }

    private void Enter()
    {
        var wait = default(SpinWait);
        int user;
        while ((user = Interlocked.CompareExchange(ref _inUse, Environment.CurrentManagedThreadId, 0)) != 0)
        {
            if (user > 0)
            {
                throw new KvConcurrencyException("step in use", "one thread at a time", "a call on another thread");
            }

            // Someone ends it: what comes then is a call too late, and no misuse.
            wait.SpinOnce();
        }
    }

    private void Leave() => Volatile.Write(ref _inUse, 0);
}
