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
