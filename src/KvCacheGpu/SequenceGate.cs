namespace KvCacheGpu;

/// <summary>Who uses a sequence: no one, one thread's call, a step, or no one ever again. Detects misuse; never waits.</summary>
internal struct SequenceGate
{
    private const int Idle = 0;
    private const int InCall = 1;
    private const int InStep = 2;
    private const int Disposed = 3;

    private int _state;

    public readonly bool IsInStep => Volatile.Read(in _state) == InStep;

    public readonly bool IsDisposed => Volatile.Read(in _state) == Disposed;

    public void EnterCall() => Enter(InCall);

    public void EnterStep() => Enter(InStep);

    /// <summary>Enters for good; false where that was done before.</summary>
    public bool TryEnterDisposal()
    {
        int state = Interlocked.CompareExchange(ref _state, Disposed, Idle);
        if (state is InCall or InStep)
        {
            throw Busy(state);
        }

        return state == Idle;
    }

    public void Leave() => Volatile.Write(ref _state, Idle);

    private void Enter(int use)
    {
        int state = Interlocked.CompareExchange(ref _state, use, Idle);
        ObjectDisposedException.ThrowIf(state == Disposed, typeof(KvSequence));
        if (state != Idle)
        {
            throw Busy(state);
        }
    }

    private static KvConcurrencyException Busy(int state) =>
        new("sequence in use", "one thread at a time, and no step under way", state == InStep ? "a step under way" : "a call on another thread");
}
