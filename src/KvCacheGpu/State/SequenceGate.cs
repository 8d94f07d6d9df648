namespace KvCacheGpu;

/// <summary>
/// Who uses a sequence: no one, one thread's call, a step, or no one ever again. Detects misuse; waits for nothing but an eviction or a snapshot.
/// Who disposes asks again until whoever is inside has left, and from its first question on nobody else comes in. Taken before every <see cref="Gate"/> but that of captures.
/// </summary>
internal sealed class SequenceGate
{
    private const int Idle = 0;
    private const int InCall = 1;
    private const int InStep = 2;
    private const int Disposed = 3;
    private const int Evicting = 4;
    private const int HandedOver = 5;

    private int _state;
    private int _wanted;
    private int _closed;
    private int _thread;

    public bool IsDisposed => Volatile.Read(in _state) == Disposed;

    /// <summary>Enters for one call that reads or changes pages, and leaves when the scope is disposed: no step and no other thread meanwhile.</summary>
    /// <exception cref="ObjectDisposedException">The sequence was disposed.</exception>
    /// <exception cref="KvConcurrencyException">E006: a step is under way, or another thread is inside.</exception>
    public Call EnterForCall()
    {
        Enter(InCall);
        return new Call(this);
    }

    /// <summary>The same until <see cref="Leave"/>.</summary>
    public void EnterCall() => Enter(InCall);

    public void EnterStep() => Enter(InStep);

    /// <summary>Enters if the sequence is idle. A call or step that comes meanwhile waits for <see cref="Leave"/>: it could not have known.</summary>
    public bool TryEnterEviction()
    {
        bool isMine = Interlocked.CompareExchange(ref _state, Evicting, Idle) == Idle;
        if (isMine)
        {
            _thread = Environment.CurrentManagedThreadId;
        }

        return isMine;
    }

    /// <summary>
    /// Enters as <see cref="TryEnterEviction"/> does, next after who is inside: who leaves hands the sequence over, however soon its thread
    /// comes again.
    /// </summary>
    /// <param name="cancel">Ends the wait.</param>
    /// <param name="settle">Called while someone is inside: a step that waits for its outcome leaves once it has it. The default value is null: no step does.</param>
    /// <returns>False, and nothing is entered, if the sequence was disposed.</returns>
    /// <exception cref="OperationCanceledException">Cancelled before it was its turn.</exception>
    public bool EnterNext(CancellationToken cancel, Action? settle = null)
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

            try
            {
                settle?.Invoke();
            }
            catch
            {
                // Not its turn any longer; who has handed the sequence over already has left it to this one.
                if (Interlocked.Exchange(ref _wanted, 0) == 0)
                {
                    Leave();
                }

                throw;
            }

            wait.SpinOnce();
        }

        Volatile.Write(ref _wanted, 0);
        _thread = Environment.CurrentManagedThreadId;
        return true;
    }

    /// <summary>Refuses to dispose the sequence from inside of a call on it: the caller would wait for itself.</summary>
    /// <exception cref="KvConcurrencyException">E006: the calling thread is inside.</exception>
    public void ThrowIfInside()
    {
        if (Volatile.Read(in _state) is InCall or Evicting && Volatile.Read(in _thread) == Environment.CurrentManagedThreadId)
        {
            throw new KvConcurrencyException("sequence in use", "Dispose after the call that is under way", "Dispose from inside of it");
        }
    }

    /// <summary>Lets no one in any longer, and enters for good if no one is inside.</summary>
    /// <returns>True if the caller is the one to dispose the sequence, false if another is; null while someone is still inside.</returns>
    public bool? TryEnterDisposal()
    {
        Volatile.Write(ref _closed, 1);
        return Interlocked.CompareExchange(ref _state, Disposed, Idle) switch
        {
            Idle => true,
            Disposed => false,
            _ => null,
        };
    }

    /// <summary>Leaves for good: nobody enters again.</summary>
    public void LeaveDisposed() => Volatile.Write(ref _state, Disposed);

    public void Leave()
    {
        _thread = 0;
        Volatile.Write(ref _state, Volatile.Read(ref _wanted) == 1 && Interlocked.Exchange(ref _wanted, 0) == 1 ? HandedOver : Idle);
    }

    private void Enter(int use)
    {
        int state = Take(use);
        if (state == Idle)
        {
            // Entered first, asked then: who closes meanwhile either sees the caller inside, or is seen.
            if (Volatile.Read(ref _closed) == 0)
            {
                _thread = Environment.CurrentManagedThreadId;
                return;
            }

            Leave();
        }

        if (Volatile.Read(ref _closed) != 0 || state == Disposed)
        {
            throw new ObjectDisposedException("KvSequence", "expected a live sequence, got one that was disposed");
        }

        throw new KvConcurrencyException(
            "sequence in use", "one call at a time, and none while a step is under way", state == InStep ? "a step under way" : "a call under way");
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

    /// <summary>Being inside for one call.</summary>
    public readonly ref struct Call(SequenceGate gate)
    {
        public void Dispose() => gate.Leave();
    }
}
