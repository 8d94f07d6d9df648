namespace KvCacheGpu;

/// <content>Whether a step fits, and the working memory that steps borrow. The pool's gate is held where not said otherwise.</content>
public sealed partial class KvCache
{
    private int _reads;
    private int _stepsWaiting;

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

        long free = FreeBytes;
        long memory = MustWaitForReads ? 0 : NewMemoryBytes;
        if (memory > free)
        {
            return NoMemory(free);
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

    /// <summary>
    /// Gives up working memory that steps at once had, then pages that no sequence holds, least recently used first, until slots and bytes are there;
    /// <see cref="WhyNot"/> has said that they will be.
    /// </summary>
    internal void MakeRoom(in SlotCounts slots, long bytes)
    {
        while (ReclaimableBytes > 0 && _ledger.Live + Pool.BytesOf(slots) + bytes > BudgetBytes)
        {
            _idleSteps.Pop().Dispose();
        }

        while ((!Pool.Holds(slots) || _ledger.Live + Pool.BytesOf(slots) + bytes > BudgetBytes) && Prefixes?.Index.Evict() > 0)
        {
        }
    }

    /// <summary>Takes slots outside of steps, of those that steps leave free too.</summary>
    /// <returns>False, and nothing was taken, where they are not there.</returns>
    internal bool TryTake(in SlotCounts counts, Span<int> slots)
    {
        if (Pool.BytesOf(counts) > FreeBytes || !Pool.HoldsWithoutCached(counts))
        {
            return false;
        }

        MakeRoom(counts, 0);
        return Pool.TryTake(counts, slots);
    }

    /// <summary>Whether the budget has bytes for one more page of a class.</summary>
    internal bool HasBytesFor(int pageClass) => Pool.BytesOf(SlotCounts.Of(pageClass, 1)) <= BudgetBytes - _ledger.Live;

    /// <summary>
    /// Whether a step or read has to wait for a read to end, which it does by itself: of a configured budget reads shall not take more working memory
    /// than there is, which pages would lack from then on.
    /// </summary>
    internal bool MustWaitForReads => _reads > 0 && NewMemoryBytes > 0;

    /// <summary>Waits for a read to give its working memory back, before reads that come later. The gate is not held.</summary>
    internal void WaitForReads()
    {
        Interlocked.Increment(ref _stepsWaiting);
        var wait = default(SpinWait);
        while (IsWaiting())
        {
            wait.SpinOnce();
        }

        Interlocked.Decrement(ref _stepsWaiting);

        bool IsWaiting()
        {
            lock (Pool.Gate)
            {
                return MustWaitForReads;
            }
        }
    }

    /// <summary>Makes room for a step's slots and, if no idle working memory is there, for that.</summary>
    internal void MakeRoomForStep(in SlotCounts slots) => MakeRoom(slots + _plan.Spare, NewMemoryBytes);

    /// <summary>Lends a read its working memory; waits while other reads hold all that there is room for. Takes the gate itself.</summary>
    /// <exception cref="KvOutOfMemoryException">E001: steps under way hold all of it.</exception>
    internal StepMemory BeginRead()
    {
        var wait = default(SpinWait);
        while (true)
        {
            lock (Pool.Gate)
            {
                ObjectDisposedException.ThrowIf(_disposed, this);
                if (!MustWaitForReads && Volatile.Read(ref _stepsWaiting) == 0)
                {
                    long free = FreeBytes;
                    if (NewMemoryBytes > free)
                    {
                        throw NoMemory(free).ToException();
                    }

                    MakeRoom(default, NewMemoryBytes);
                    StepMemory memory = RentStepMemory();
                    _reads++;
                    return memory;
                }
            }

            wait.SpinOnce();
        }
    }

    /// <summary>Takes a read's working memory back. Takes the gate itself.</summary>
    internal void EndRead(StepMemory memory)
    {
        lock (Pool.Gate)
        {
            _reads--;
            ReturnStepMemory(memory);
        }
    }

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

    // What steps and pages may take still, what is only kept for later counted.
    private long FreeBytes => BudgetBytes - _ledger.Live + Pool.CachedBytes + ReclaimableBytes;

    // Working memory beyond the first is there since steps ran at once: pages that lack its bytes come first.
    private long ReclaimableBytes => _plan.Configured is null ? 0 : Math.Max(0, _idleSteps.Count - 1) * _stepBytes;

    // Bytes that lending working memory adds to what is in use.
    private long NewMemoryBytes => _idleSteps.Count > 0 || _plan.Configured is null ? 0 : _stepBytes;

    private Refusal NoMemory(long free) => new("working memory of one more step at once", free, _stepBytes, "bytes", IsTransient: true);

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
