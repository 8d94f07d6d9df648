using Xunit;
using Xunit.Abstractions;

namespace KvCacheGpu.TestKit;

/// <summary>Chooses how much of the fault table runs, and reports how many faults fired.</summary>
/// <remarks>
/// A plain run takes fixed slices, about a minute in all. With KVCACHE_FULL_FAULTS=1 in the environment the whole table of a release runs: crash images, kills and rounds times a
/// hundred or what is named beside each. Every test prints the faults that really fired.
/// </remarks>
internal static class FaultTally
{
    public static bool IsFull { get; } = Environment.GetEnvironmentVariable("KVCACHE_FULL_FAULTS") == "1";

    public static int Slice(int slice, int full) => IsFull ? full : slice;

    /// <summary>Prints a count where people and CI's log see it, and insists on the least that makes the test worth its name.</summary>
    public static void Report(ITestOutputHelper output, string what, long fired, long least)
    {
        string line = $"faults fired: {fired} {what}";
        output.WriteLine(line);
        Console.WriteLine(line);
        Assert.InRange(fired, least, long.MaxValue);
    }
}
