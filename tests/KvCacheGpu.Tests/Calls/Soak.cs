using System.Globalization;

namespace KvCacheGpu.Tests;

/// <summary>How much of the random suites runs: the environment variable KVCACHE_SOAK, a whole number above 0, multiplies it. The default is 1, what CI runs.</summary>
internal static class Soak
{
    public static int Factor { get; } = int.TryParse(Environment.GetEnvironmentVariable("KVCACHE_SOAK"), NumberStyles.None, CultureInfo.InvariantCulture, out int factor)
        ? Math.Max(1, factor)
        : 1;
}
