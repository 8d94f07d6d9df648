namespace KvCacheGpu;

/// <summary>Asks which <see cref="KvStatistics"/> are needed.</summary>
internal static class AskedStatistics
{
    /// <summary>As <see cref="Enum.HasFlag"/>, which allocates until it is compiled for good.</summary>
    public static bool Has(this KvStatistics needs, KvStatistics statistic) => (needs & statistic) == statistic;
}
