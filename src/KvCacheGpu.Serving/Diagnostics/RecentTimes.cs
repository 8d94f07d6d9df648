namespace KvCacheGpu.Serving;

/// <summary>The last measurements of a duration. The loop's thread alone touches it.</summary>
internal sealed class RecentTimes
{
    private const int Kept = 1024;

    private readonly double[] _seconds = new double[Kept];
    private long _count;

    /// <summary>Takes a measurement.</summary>
    public void Add(double seconds) => _seconds[_count++ % Kept] = seconds;

    /// <summary>Their percentiles, by the nearest rank; zeros without any.</summary>
    public KvPercentiles Percentiles()
    {
        int count = (int)Math.Min(_count, Kept);
        double[] sorted = _seconds[..count];
        Array.Sort(sorted);
        return new KvPercentiles(count, At(.5), At(.95));

        TimeSpan At(double part) => count == 0 ? TimeSpan.Zero : TimeSpan.FromSeconds(sorted[(int)Math.Ceiling(part * count) - 1]);
    }
}
