namespace KvCacheGpu;

/// <summary>
/// Who uses a transaction: it is lent to one step after the other, each of other sequences. Calls name their step by its number, and are refused once
/// it has ended, whatever the transaction serves then.
/// </summary>
internal sealed class StepLease(CacheState cache, Pressure? pressure, StepPool pool) : ISequenceHolder, IUnsettledStep
{
    private readonly StepGate _gate = new();
    private int _tokens;

    /// <summary>What happens in the step. Its members are set while the lease is nobody else's; all else is for who is inside.</summary>
    public StepTransaction Transaction { get; } = new(cache, pressure);

    /// <summary>Opens a step of the transaction's members, or refuses, changes nothing, and goes back to the pool.</summary>
    /// <param name="tokenIds">Ids of the tokens, the first sequence's first.</param>
    /// <param name="tokensPerSequence">Tokens of each sequence; they were checked (<see cref="StepDemand.ThrowIfMalformed"/>).</param>
    /// <param name="stream">The stream of the step's work; it was checked.</param>
    /// <param name="step">The step's number.</param>
    /// <returns>Null, or what is missing.</returns>
    /// <inheritdoc cref="StepMembers.Enter" path="/exception"/>
    public KvShortage? Open(ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, KvStream stream, out long step)
    {
        try
        {
            Transaction.Members.Enter(isStep: true);
        }
        catch
        {
            GoBack();
            throw;
        }

        // With the sequences the step is this thread's; a thread that disposes one of them meanwhile waits until it is open.
        _gate.EnterNext(ends: false);
        try
        {
            step = _gate.Step;
            Volatile.Write(ref _tokens, tokenIds.Length);
            Transaction.Members.HoldBy(this);
            return Transaction.Open(tokenIds, tokensPerSequence, stream);
        }
        finally
        {
            Leave();
        }
    }

    /// <summary>True if a step of the transaction's members could begin now, as far as memory goes. The lease goes back to the pool.</summary>
    /// <inheritdoc cref="StepMembers.Enter" path="/exception"/>
    public bool CouldOpen(ReadOnlySpan<int> tokensPerSequence)
    {
        StepMembers members = Transaction.Members;
        try
        {
            members.Enter(isStep: false);
            try
            {
                return StepDemand.CouldOpen(cache, pressure, members.Sequences, tokensPerSequence)
                    || (cache.Unsettled.SettleAll() && StepDemand.CouldOpen(cache, pressure, members.Sequences, tokensPerSequence));
            }
            finally
            {
                members.Leave();
            }
        }
        finally
        {
            GoBack();
        }
    }

    /// <summary>Enters for a call on a step that is under way, until the call is disposed.</summary>
    /// <exception cref="ObjectDisposedException">The step of this number has ended.</exception>
    /// <exception cref="KvConcurrencyException">E006: a call of another thread is inside.</exception>
    public Call EnterForCall(long step)
    {
        _gate.Enter(step);
        return new Call(this);
    }

    /// <summary>Tokens of a step, over all its sequences.</summary>
    /// <exception cref="ObjectDisposedException">The step of this number has ended.</exception>
    public int TokensOf(long step)
    {
        // The number is asked for after the tokens were read: had a later step written them, this one would have ended.
        int tokens = Volatile.Read(ref _tokens);
        _gate.ThrowIfEnded(step);
        return tokens;
    }

    /// <summary>The shape of the model that a step is for.</summary>
    /// <exception cref="ObjectDisposedException">The step of this number has ended.</exception>
    public KvGeometry GeometryOf(long step)
    {
        _gate.ThrowIfEnded(step);
        return cache.Geometry;
    }

    /// <summary>Ends a step without a trace, after the call that is inside; does nothing if it has ended.</summary>
    /// <exception cref="KvConcurrencyException">E006: the calling thread is inside of a call on the step.</exception>
    public void Abandon(long step)
    {
        if (_gate.TryEnterToEnd(step))
        {
            AbandonHeld();
        }
    }

    /// <inheritdoc/>
    public void Abandon(SequenceState sequence)
    {
        _gate.EnterNext(ends: true);

        // The step that had the sequence may have ended since the caller looked, and the transaction serve another one.
        if (sequence.Holder != this)
        {
            _gate.Leave(ends: false);
        }
        else if (Transaction.IsEnqueued)
        {
            SettleHeld();
        }
        else
        {
            AbandonHeld();
        }
    }

    /// <inheritdoc/>
    public bool HasOutcome
    {
        get
        {
            try
            {
                return Transaction.Memory?.Batch.HasFinished == true;
            }
            catch (Exception)
            {
                // The device failed: that is the outcome, and the sequences of the step are told.
                return true;
            }
        }
    }

    /// <inheritdoc/>
    public void Settle()
    {
        _gate.EnterNext(ends: true);
        if (Transaction.IsEnqueued)
        {
            SettleHeld();
        }
        else
        {
            _gate.Leave(ends: false);
        }
    }

    /// <inheritdoc/>
    public void Settle(SequenceState sequence)
    {
        // Of a step that is under way there is nothing to settle: who asks is told that the sequence is in use.
        // Nor has who is inside already, as a policy that is asked while the outcome is taken over.
        if (Transaction.IsEnqueued && !_gate.IsInside)
        {
            Settle();
        }
    }

    /// <inheritdoc/>
    public void ThrowIfInside() => _gate.ThrowIfInside();

    private CacheState Cache => cache;

    private void SettleHeld()
    {
        cache.Unsettled.BeginSettling(this);
        try
        {
            Transaction.Settle(Transaction.Memory!);
        }
        finally
        {
            Leave();
            cache.Unsettled.EndSettling();
        }
    }

    private void AbandonHeld()
    {
        try
        {
            Transaction.Abandon(Transaction.Memory!);
        }
        finally
        {
            Leave();
        }
    }

    // Once its step has ended, or was refused, the transaction is lent to others.
    private void Leave()
    {
        bool ends = Transaction.Memory is null;
        _gate.Leave(ends || Transaction.IsEnqueued);
        if (ends)
        {
            GoBack();
        }
    }

    private void GoBack()
    {
        Transaction.Members.Clear();
        pool.Return(this);
    }

    /// <summary>Being inside of a step that is under way.</summary>
    public readonly ref struct Call(StepLease lease)
    {
        /// <summary>The cache.</summary>
        public CacheState Cache => lease.Cache;

        /// <summary>The step.</summary>
        public StepTransaction Step => lease.Transaction;

        /// <summary>Its working memory.</summary>
        public StepMemory Memory => lease.Transaction.Memory!;

        /// <summary>Leaves the outcome of the step for later: for its host it has ended when the call has.</summary>
        public void Defer()
        {
            lease.Transaction.Defer();
            lease.Cache.Unsettled.Add(lease);
        }

        public void Dispose() => lease.Leave();
    }
}
