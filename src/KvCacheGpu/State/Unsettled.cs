namespace KvCacheGpu;

/// <summary>A step that was committed without waiting for the device.</summary>
internal interface IUnsettledStep
{
    /// <summary>True if the device is done with it, as far as can be seen without waiting.</summary>
    bool HasOutcome { get; }

    /// <summary>Waits for the device and takes over the outcome; does nothing if that was done meanwhile.</summary>
    void Settle();
}

/// <summary>
/// The steps that were committed without waiting and whose outcome was not taken over yet: they hold pages and working memory until then. Thread safe;
/// callers are outside of all gates but those of sequences and of their own step.
/// </summary>
internal sealed class Unsettled
{
    /// <summary>Steps that wait for their outcome when another one begins, at most: each has working memory of its own.</summary>
    public const int Most = 4;

    private readonly Lock _lock = new();
    private readonly List<IUnsettledStep> _steps = [];
    private readonly List<int> _settlers = [];
    private int _count;

    /// <summary>True if there are such steps, or threads that settle one.</summary>
    public bool Any => Volatile.Read(ref _count) > 0;

    public void Add(IUnsettledStep step)
    {
        lock (_lock)
        {
            _steps.Add(step);
            Volatile.Write(ref _count, _steps.Count + _settlers.Count);
        }
    }

    /// <summary>Takes a step out, which the calling thread settles until <see cref="EndSettling"/>.</summary>
    public void BeginSettling(IUnsettledStep step)
    {
        lock (_lock)
        {
            _steps.Remove(step);
            _settlers.Add(Environment.CurrentManagedThreadId);
            Volatile.Write(ref _count, _steps.Count + _settlers.Count);
        }
    }

    /// <summary>Says that the calling thread has settled the step that it took out last.</summary>
    public void EndSettling()
    {
        lock (_lock)
        {
            _settlers.Remove(Environment.CurrentManagedThreadId);
            Volatile.Write(ref _count, _steps.Count + _settlers.Count);
        }
    }

    /// <summary>Takes over the outcomes that are there, without waiting.</summary>
    public void SettleDone()
    {
        while (Any && First(mustBeDone: true) is { } step)
        {
            step.Settle();
        }
    }

    /// <summary>Takes over the outcomes that are there, and waits for those of the oldest steps where more than <see cref="Most"/> wait for one.</summary>
    public void SettleBeyondMost()
    {
        SettleDone();
        while (Volatile.Read(ref _count) > Most && First(mustBeDone: false) is { } step)
        {
            step.Settle();
        }
    }

    /// <summary>Takes over all outcomes. Waits for the device, and for other threads that settle a step.</summary>
    /// <returns>True if there was one: pages and working memory may have become free.</returns>
    public bool SettleAll()
    {
        bool any = false;
        var wait = default(SpinWait);
        while (Any)
        {
            if (First(mustBeDone: false) is { } step)
            {
                step.Settle();
            }
            else if (OnlyOthersSettle())
            {
                wait.SpinOnce();
            }
            else
            {
                break;
            }

            any = true;
        }

        return any;
    }

    // False for a thread that settles, as from within a policy: it would wait for itself.
    private bool OnlyOthersSettle()
    {
        lock (_lock)
        {
            return _settlers.Count > 0 && !_settlers.Contains(Environment.CurrentManagedThreadId);
        }
    }

    private IUnsettledStep? First(bool mustBeDone)
    {
        lock (_lock)
        {
            foreach (IUnsettledStep step in _steps)
            {
                if (!mustBeDone || step.HasOutcome)
                {
                    return step;
                }
            }
        }

        return null;
    }
}
