namespace KvCacheGpu;

/// <summary>Counts the steps of a cache, and orders its sequences by when they were last used. Any thread, without a gate.</summary>
internal sealed class CacheClock
{
    private long _steps;
    private long _ticks;

    /// <summary>Number of the step that commits next.</summary>
    public long NextStep => Interlocked.Read(ref _steps);

    /// <summary>Counts a step that was committed.</summary>
    /// <returns>Steps committed.</returns>
    public long CountStep() => Interlocked.Increment(ref _steps);

    /// <summary>A moment later than all before.</summary>
    public long Tick() => Interlocked.Increment(ref _ticks);

    /// <summary>How far this cache's steps are ahead of those that a snapshot counts from.</summary>
    public long StepsLater(long saved) => Math.Max(0, NextStep - saved);

    /// <summary>Goes on counting from at least so many steps: scores name steps, and those that follow must come after them.</summary>
    public void CountTo(long steps)
    {
        long now;
        while ((now = NextStep) < steps && Interlocked.CompareExchange(ref _steps, steps, now) != now)
        {
        }
    }
}
