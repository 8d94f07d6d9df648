using System.Diagnostics;

namespace KvCacheGpu;

/// <summary>Times of the last calls of one kind. Thread-safe.</summary>
internal sealed class CallClock
{
    private const int Kept = 1024;

    private readonly long[] _ticks = new long[Kept];
    private readonly Lock _gate = new();
    private long _count;

    public void Add(long since)
    {
        long ticks = Stopwatch.GetTimestamp() - since;
        lock (_gate)
        {
            _ticks[_count++ % Kept] = ticks;
        }
    }

    public KvCallTimes Read()
    {
        lock (_gate)
        {
            long[] sorted = [.. _ticks.Take((int)Math.Min(_count, Kept)).Order()];
            return new KvCallTimes(_count, At(sorted, 0.50), At(sorted, 0.95), At(sorted, 0.99));
        }
    }

    // Nearest rank.
    private static TimeSpan At(long[] sorted, double share) => sorted.Length == 0
        ? TimeSpan.Zero
        : Stopwatch.GetElapsedTime(0, sorted[Math.Max(0, (int)Math.Ceiling(share * sorted.Length) - 1)]);
}

/// <summary>Times of an engine's calls, while <see cref="KvExecutionOptions.EnableProfiling"/> is on. Thread-safe.</summary>
internal sealed class CallClocks(KvCacheConfig config)
{
    private readonly Dictionary<string, CallClock> _clocks = new() { ["put"] = new(), ["get"] = new(), ["forward"] = new() };

    /// <summary>Notes a call that began at a timestamp and ends now.</summary>
    public void Note(string call, long since)
    {
        if (config.Execution.EnableProfiling)
        {
            _clocks[call].Add(since);
        }
    }

    /// <summary>The times by call; null if calls are not timed.</summary>
    public IReadOnlyDictionary<string, KvCallTimes>? Read() =>
        config.Execution.EnableProfiling ? _clocks.ToDictionary(clock => clock.Key, clock => clock.Value.Read()) : null;
}
