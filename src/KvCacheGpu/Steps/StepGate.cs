namespace KvCacheGpu;

/// <summary>
/// Who is inside of a step: one thread's call, or the one who ends it. Taken after the sequences' gates and before the gates of plans, pages and the device.
/// </summary>
/// <remarks>
/// Steps that have ended leave the gate to later ones, each with a number of its own. The number and who is inside are one word, so that entering and
/// asking for the number are one operation: a call on a step that has ended never gets inside of the step that came after it.
/// </remarks>
internal sealed class StepGate
{
    private const int InCall = 1;
    private const int Ending = 2;
    private const int Inside = InCall | Ending;
    private const int NumberShift = 2;

    // The step's number, and in its last bits who is inside: nobody, one thread's call, or the one who ends it.
    private long _word;
    private int _thread;

    /// <summary>Number of the step that has the gate, or of the next one while none has it.</summary>
    public long Step => Volatile.Read(ref _word) >> NumberShift;

    /// <summary>True if the calling thread is inside.</summary>
    public bool IsInside => (Volatile.Read(ref _word) & Inside) != 0 && Volatile.Read(ref _thread) == Environment.CurrentManagedThreadId;

    /// <summary>Enters for a call on the step.</summary>
    /// <exception cref="ObjectDisposedException">The step of this number has ended.</exception>
    /// <exception cref="KvConcurrencyException">E006: a call of another thread is inside.</exception>
    public void Enter(long step)
    {
        long free = step << NumberShift;
        var wait = default(SpinWait);
        long seen;
        while ((seen = Interlocked.CompareExchange(ref _word, free | InCall, free)) != free)
        {
            ThrowIfEnded(seen, step);
            if (seen == (free | InCall))
            {
                throw new KvConcurrencyException("step in use", "one thread at a time", "a call on another thread");
            }

            // Someone ends it: a call that comes then is too late, and no misuse.
            wait.SpinOnce();
        }

        _thread = Environment.CurrentManagedThreadId;
    }

    /// <summary>Enters next after whoever is inside, whichever step it is of then.</summary>
    /// <param name="ends">True to end the step, so that calls that come meanwhile wait; false to open one.</param>
    public void EnterNext(bool ends)
    {
        var wait = default(SpinWait);
        while (!HasEntered(Volatile.Read(ref _word), ends ? Ending : InCall))
        {
            wait.SpinOnce();
        }
    }

    /// <summary>Enters next after the call that is inside, to end the step.</summary>
    /// <returns>False, and nothing is entered, if the step of this number has ended.</returns>
    /// <exception cref="KvConcurrencyException">E006: the calling thread is inside of a call on the step: it would wait for itself.</exception>
    public bool TryEnterToEnd(long step)
    {
        var wait = default(SpinWait);
        long seen;
        while ((seen = Volatile.Read(ref _word)) >> NumberShift == step)
        {
            if (HasEntered(seen, Ending))
            {
                return true;
            }

            ThrowIfInside();
            wait.SpinOnce();
        }

        return false;
    }

    /// <summary>Leaves.</summary>
    /// <param name="ends">True if the step has ended: its number never comes again.</param>
    public void Leave(bool ends)
    {
        _thread = 0;
        Volatile.Write(ref _word, ((_word >> NumberShift) + (ends ? 1 : 0)) << NumberShift);
    }

    /// <exception cref="ObjectDisposedException">The step of this number has ended.</exception>
    public void ThrowIfEnded(long step) => ThrowIfEnded(Volatile.Read(ref _word), step);

    /// <summary>Refuses to end the step from inside of a call on it: the caller would wait for itself.</summary>
    /// <exception cref="KvConcurrencyException">E006: the calling thread is inside.</exception>
    public void ThrowIfInside()
    {
        if (IsInside)
        {
            throw new KvConcurrencyException("step in use", "Dispose after the call that is under way", "Dispose from inside of it");
        }
    }

    private static void ThrowIfEnded(long word, long step)
    {
        if (word >> NumberShift != step)
        {
            throw new ObjectDisposedException("KvStep", "expected a step under way, got one that has ended: it was committed or disposed, or one of its sequences was disposed");
        }
    }

    // True if nobody was inside, and now the caller is.
    private bool HasEntered(long seen, int use)
    {
        bool hasEntered = (seen & Inside) == 0 && Interlocked.CompareExchange(ref _word, seen | (long)use, seen) == seen;
        if (hasEntered)
        {
            _thread = Environment.CurrentManagedThreadId;
        }

        return hasEntered;
    }
}
