namespace KvCacheGpu;

/// <summary>Who is inside of a step: one thread's call, or the one who ends it. Taken after the sequences' gates and before the gates of plans, pages and the device.</summary>
internal sealed class StepGate
{
    // The thread that is inside, below 0 if it ends the step.
    private int _inUse;

    /// <summary>Enters for a call on the step.</summary>
    /// <exception cref="KvConcurrencyException">E006: a call of another thread is inside.</exception>
    public void Enter()
    {
        var wait = default(SpinWait);
        int user;
        while ((user = Interlocked.CompareExchange(ref _inUse, Environment.CurrentManagedThreadId, 0)) != 0)
        {
            if (user > 0)
            {
                throw new KvConcurrencyException("step in use", "one thread at a time", "a call on another thread");
            }

            // Someone ends it: a call that comes then is too late, and no misuse.
            wait.SpinOnce();
        }
    }

    /// <summary>Enters next after the call that is inside, to open the step or to end it.</summary>
    /// <param name="ends">True if the caller ends the step: calls that come meanwhile wait.</param>
    public void EnterNext(bool ends)
    {
        int thread = Environment.CurrentManagedThreadId;
        var wait = default(SpinWait);
        while (Interlocked.CompareExchange(ref _inUse, ends ? -thread : thread, 0) != 0)
        {
            wait.SpinOnce();
        }
    }

    public void Leave() => Volatile.Write(ref _inUse, 0);

    /// <summary>Refuses to end the step from inside of a call on it: the caller would wait for itself.</summary>
    /// <exception cref="KvConcurrencyException">E006: the calling thread is inside.</exception>
    public void ThrowIfInside()
    {
        if (Volatile.Read(ref _inUse) == Environment.CurrentManagedThreadId)
        {
            throw new KvConcurrencyException("step in use", "Dispose after the call that is under way", "Dispose from inside of it");
        }
    }
}
