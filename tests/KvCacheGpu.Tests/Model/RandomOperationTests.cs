using KvCacheGpu.Kernels;
using Xunit.Abstractions;

namespace KvCacheGpu.Tests;

/// <summary>200k random operations against plain lists.</summary>
public sealed class RandomOperationTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(PageFormat.F32, PageFormat.F32, 0, 100, 52_000)]
    [InlineData(PageFormat.F32, PageFormat.F32, 9, 75, 52_000)]
    [InlineData(PageFormat.I8, PageFormat.I8, 0, 60, 52_000)]
    [InlineData(PageFormat.I8, PageFormat.F16, 9, 75, 52_000)]
    public void A_cache_does_what_plain_lists_do(PageFormat key, PageFormat value, int window, int budgetPercent, int operations)
    {
        const int Seed = 20260101;
        WindowPolicy? policy = window == 0 ? null : new WindowPolicy(5, window);
        using var run = new RandomOperations(key, value, policy, budgetPercent, Seed);
        try
        {
            run.Run(operations);
            run.Finish();
        }
        catch
        {
            output.WriteLine($"seed {Seed}, {string.Join(", ", run.Done.Select(d => $"{d.Key} {d.Value}"))}");
            throw;
        }

        output.WriteLine(string.Join(", ", run.Done.Select(d => $"{d.Key} {d.Value}")) + $", pages sealed {run.SealedSeen}");
        string[] kinds = ["create", "create refused", "fork", "free", "truncate", "truncate deep", "step", "abandon", "non-finite", "refused", "batch step", "batch abandon", "batch refused"];
        Assert.All(kinds, kind => Assert.True(run.Done.GetValueOrDefault(kind) > 50, $"{kind} ran {run.Done.GetValueOrDefault(kind)} times"));
        Assert.True(run.SealedSeen > 1000, $"{run.SealedSeen} pages were sealed");
    }
}
