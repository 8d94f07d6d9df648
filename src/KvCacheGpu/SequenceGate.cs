namespace KvCacheGpu;

/// <summary>Who uses a sequence: no one, one thread's call, a step, or no one ever again. Detects misuse; waits for nothing but an eviction or a snapshot.</summary>
internal struct SequenceGate
{
    private const int Idle = 0;
    private const int InCall = 1;
    private const int InStep = 2;
    private const int Disposed = 3;
    private const int Evicting = 4;
    private const int HandedOver = 5;

    private int _state;
    private int _wanted;

    public readonly bool IsInStep => Volatile.Read(in _state) == InStep;

    public readonly bool IsDisposed => Volatile.Read(in _state) == Disposed;

    public void EnterCall() => Enter(InCall);

    public void EnterStep() => Enter(InStep);

    /// <summary>Enters where the sequence is idle. Who else comes waits: it could not have known.</summary>
    public bool TryEnterEviction() => Interlocked.CompareExchange(ref _state, Evicting, Idle) == Idle;

    /// <summary>
    /// Enters as <see cref="TryEnterEviction"/> does, next after who is inside: who leaves hands the sequence over, however soon its thread
    /// comes again.
    /// </summary>
    /// <returns>False, and nothing is entered, where the sequence was disposed.</returns>
    /// <exception cref="OperationCanceledException">Cancelled before it was its turn.</exception>
    public bool EnterNext(CancellationToken cancel)
    {
        var wait = default(SpinWait);
        Volatile.Write(ref _wanted, 1);
        while (!TryEnterEviction() && Interlocked.CompareExchange(ref _state, Evicting, HandedOver) != HandedOver)
        {
            if (IsDisposed)
            {
                return false;
            }

            if (cancel.IsCancellationRequested && Interlocked.Exchange(ref _wanted, 0) == 1)
            {
                throw new OperationCanceledException(cancel);
            }

            wait.SpinOnce();
        }

        Volatile.Write(ref _wanted, 0);
        return true;
    }

    /// <summary>Enters for good; false where that was done before.</summary>
    public bool TryEnterDisposal()
    {
        int state = Take(Disposed);
        if (state is InCall or InStep)
        {
            throw Busy(state);
        }

        return state == Idle;
    }

    public void Leave() =>
        Volatile.Write(ref _state, Volatile.Read(ref _wanted) == 1 && Interlocked.Exchange(ref _wanted, 0) == 1 ? HandedOver : Idle);

    private void Enter(int use)
    {
        int state = Take(use);
        ObjectDisposedException.ThrowIf(state == Disposed, typeof(KvSequence));
        if (state != Idle)
        {
            throw Busy(state);
        }
    }

    private int Take(int use)
    {
        var wait = default(SpinWait);
        int state;
        while ((state = Interlocked.CompareExchange(ref _state, use, Idle)) is Evicting or HandedOver)
        {
            wait.SpinOnce();
        }

        return state;
    }

    private static KvConcurrencyException Busy(int state) =>
        new("sequence in use", "one thread at a time, and no step under way", state == InStep ? "a step under way" : "a call on another thread");
}
