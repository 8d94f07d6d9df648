namespace KvCacheGpu;

/// <summary>What of <see cref="KvStatistics"/> is asked for.</summary>
internal static class AskedStatistics
{
    /// <summary>As <see cref="Enum.HasFlag"/>, which allocates until it is compiled for good.</summary>
    public static bool Has(this KvStatistics needs, KvStatistics statistic) => (needs & statistic) == statistic;
}
