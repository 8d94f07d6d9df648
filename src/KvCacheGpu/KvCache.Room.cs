namespace KvCacheGpu;

/// <content>Whether a step fits, and the working memory that steps borrow. The pool's gate is held where not said otherwise.</content>
public sealed partial class KvCache
{
    /// <summary>Whether a step could begin, what the policy may drop counted. The sequences are the caller's. Takes the gate itself.</summary>
    internal bool CanAppend(ReadOnlySpan<KvSequence> sequences, ReadOnlySpan<int> tokensPerSequence)
    {
        long sum = 0;
        foreach (int tokens in tokensPerSequence)
        {
            if (tokens < 1)
            {
                return false;
            }

            sum += tokens;
        }

        Refusal? refusal;
        lock (Pool.Gate)
        {
            refusal = WhyNot(sequences, tokensPerSequence, out _);
        }

        return sum <= Settings.MaxBatchTokens && (refusal is not { } why || CouldMakeWay(sequences, why));
    }

    /// <summary>What a step would lack, or null; and the slots that it takes.</summary>
    internal Refusal? WhyNot(ReadOnlySpan<KvSequence> sequences, ReadOnlySpan<int> tokensPerSequence, out SlotCounts need)
    {
        need = default;
        for (int i = 0; i < sequences.Length; i++)
        {
            PageTable table = sequences[i].Table;
            long length = (long)table.Length + tokensPerSequence[i];
            if (length > Settings.MaxTokens)
            {
                return new Refusal("sequence", Settings.MaxTokens, length, "tokens");
            }

            need += table.NeedFor(tokensPerSequence[i]);
        }

        long free = BudgetBytes - _ledger.Live + Pool.CachedBytes;
        long memory = _idleSteps.Count > 0 || _plan.Configured is null ? 0 : _stepBytes;
        if (memory > free)
        {
            return new Refusal("working memory of one more step at once", free, memory, "bytes");
        }

        SlotCounts slots = need + _plan.Spare;
        long bytes = Pool.BytesOf(slots);
        long slabs = bytes - Pool.LackingWithoutCached(slots);
        if (bytes > free - memory)
        {
            return new Refusal("pages of the step", Math.Min(free - memory, slabs), bytes, "bytes");
        }

        return slabs == bytes ? null : new Refusal("pages of the step", slabs, bytes, "bytes in slabs of their size");
    }

    /// <summary>Gives up pages that no sequence holds, least recently used first, until slots and bytes are there; <see cref="WhyNot"/> has said that they will be.</summary>
    internal void MakeRoom(in SlotCounts slots, long bytes)
    {
        while ((!Pool.Holds(slots) || _ledger.Live + Pool.BytesOf(slots) + bytes > BudgetBytes) && Prefixes?.Index.Evict() > 0)
        {
        }
    }

    /// <summary>Takes slots outside of steps, of those that steps leave free too.</summary>
    /// <returns>False, and nothing was taken, where they are not there.</returns>
    internal bool TryTake(in SlotCounts counts, Span<int> slots)
    {
        if (Pool.BytesOf(counts) > BudgetBytes - _ledger.Live + Pool.CachedBytes || !Pool.HoldsWithoutCached(counts))
        {
            return false;
        }

        MakeRoom(counts, 0);
        return Pool.TryTake(counts, slots);
    }

    /// <summary>Whether the budget has bytes for one more page of a class.</summary>
    internal bool HasBytesFor(int pageClass) => Pool.BytesOf(SlotCounts.Of(pageClass, 1)) <= BudgetBytes - _ledger.Live;

    /// <summary>Makes room for a step's slots and, if no idle working memory is there, for that.</summary>
    internal void MakeRoomForStep(in SlotCounts slots) =>
        MakeRoom(slots + _plan.Spare, _idleSteps.Count > 0 || _plan.Configured is null ? 0 : _stepBytes);

    /// <summary>Lends a step its working memory; <see cref="WhyNot"/> has said that there is room for it.</summary>
    internal StepMemory RentStepMemory()
    {
        if (_idleSteps.TryPop(out StepMemory? memory))
        {
            return memory;
        }

        memory = NewStepMemory();
        if (_plan.Configured is null)
        {
            Interlocked.Add(ref _budget, _stepBytes);
        }

        return memory;
    }

    internal void ReturnStepMemory(StepMemory memory) => _idleSteps.Push(memory);

    internal void Forget(KvSequence sequence)
    {
        _ledger.Add(Kernels.AllocationKind.Bookkeeping, -TokenIdBytes);
        Volatile.Write(ref _sequences[sequence.Table.Sequence], null);
    }

    private long TokenIdBytes => (long)Settings.MaxTokens * sizeof(int);

    private StepMemory NewStepMemory()
    {
        try
        {
            return new StepMemory(Tier, DeviceGate, Settings.MostBatched, Settings.MaxBatchTokens, _ledger);
        }
        catch (OutOfMemoryException e)
        {
            throw new KvOutOfMemoryException("working memory of a step", $"{_stepBytes} bytes", "less", e);
        }
    }
}
