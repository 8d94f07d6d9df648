using Xunit.Abstractions;

namespace KvCacheGpu.Tests;

/// <summary>300k random operations against plain lists; the environment variable KVCACHE_SOAK multiplies them.</summary>
public sealed class RandomOperationTests(ITestOutputHelper output)
{
    private static readonly KvFormats F32 = new(PageFormat.F32, PageFormat.F32);
    private static readonly KvFormats F16 = new(PageFormat.F16, PageFormat.F16);
    private static readonly KvFormats I8 = new(PageFormat.I8, PageFormat.I8);
    private static readonly KvFormats T4 = new(PageFormat.T4, PageFormat.V4);
    private static readonly KvFormats T3 = new(PageFormat.T3, PageFormat.V3);
    private static readonly KvFormats T2 = new(PageFormat.T2, PageFormat.V2);

    private static readonly Dictionary<string, ModelRun> Runs = new()
    {
        ["f32"] = new(F32, null, []),
        ["f32, window"] = new(F32, null, [], 9, 75),
        ["i8"] = new(I8, null, [], 0, 60),
        ["i8/f16, window"] = new(new KvFormats(PageFormat.I8, PageFormat.F16), null, [], 9, 75),
        ["f32 and t4/v4, demoted"] = new(F32, T4, [I8, T3, T2], 0, 65),
        ["f16 and i8, demoted, kept, window"] = new(F16, I8, [I8, T4, T2], 20, 80, Keeps: true),
        ["i8, sealed at once"] = new(I8, null, [], Rollback: 0),
        ["f32 and i8, rolled back within a page, window"] = new(F32, I8, [], 9, 75, Rollback: 1),
        ["f16 and t4/v4, rolled back over pages, demoted"] = new(F16, T4, [T3, T2], 0, 65, Rollback: 13),
    };

    [Theory]
    [InlineData("f32", 34_000)]
    [InlineData("f32, window", 34_000)]
    [InlineData("i8", 34_000)]
    [InlineData("i8/f16, window", 34_000)]
    [InlineData("f32 and t4/v4, demoted", 34_000)]
    [InlineData("f16 and i8, demoted, kept, window", 34_000)]
    [InlineData("i8, sealed at once", 34_000)]
    [InlineData("f32 and i8, rolled back within a page, window", 34_000)]
    [InlineData("f16 and t4/v4, rolled back over pages, demoted", 34_000)]
    public void A_cache_does_what_plain_lists_do(string name, int operations)
    {
        const int Seed = 20260101;
        using var run = new RandomOperations(Runs[name], Seed);
        try
        {
            run.Run(operations * Soak.Factor);
            run.Finish();
        }
        catch
        {
            output.WriteLine($"seed {Seed}, {string.Join(", ", run.Done.Select(d => $"{d.Key} {d.Value}"))}");
            throw;
        }

        output.WriteLine(string.Join(", ", run.Done.Select(d => $"{d.Key} {d.Value}")) + $", pages sealed {run.SealedSeen}");
        string[] kinds = ["create", "create refused", "fork", "free", "truncate", "truncate deep", "step", "abandon", "refused", "batch step", "batch abandon", "batch refused", "load aside", "load back"];
        Assert.True(run.Done.GetValueOrDefault("load elsewhere") > 20, $"load elsewhere ran {run.Done.GetValueOrDefault("load elsewhere")} times");
        kinds = Runs[name].Keeps ? [.. kinds, "demote kept"] : [.. kinds, "non-finite"];
        kinds = Runs[name].Demotions.Length > 0 ? [.. kinds, "demote", "demote against the ladder"] : kinds;
        Assert.All(kinds, kind => Assert.True(run.Done.GetValueOrDefault(kind) > 30, $"{kind} ran {run.Done.GetValueOrDefault(kind)} times"));
        Assert.True(run.SealedSeen > 1000, $"{run.SealedSeen} pages were sealed");
    }
}
