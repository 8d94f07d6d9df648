namespace KvCacheGpu;

/// <summary>Asks which <see cref="KvStatistics"/> are needed.</summary>
internal static class AskedStatistics
{
    /// <summary>As <see cref="Enum.HasFlag"/>, which allocates until it is compiled for good.</summary>
    public static bool Has(this KvStatistics needs, KvStatistics statistic) => (needs & statistic) == statistic;

    /// <summary>True if anything that is asked for lies among the tables' scores.</summary>
    public static bool HaveScores(this KvStatistics needs) => (needs & (KvStatistics.Mass | KvStatistics.WindowMass | KvStatistics.Queries)) != 0;
}
