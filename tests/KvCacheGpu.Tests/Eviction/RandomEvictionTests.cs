using Xunit.Abstractions;

namespace KvCacheGpu.Tests;

/// <summary>More than 200k random operations under random budgets, with every policy; the environment variable KVCACHE_SOAK multiplies them.</summary>
public sealed class RandomEvictionTests(ITestOutputHelper output)
{
    private const int Operations = 4_000;

    // Of each policy, so that all together are above 200k.
    private const int Caches = 4;

    public static TheoryData<string> Policies() => [.. TightCaches.Names];

    [Theory]
    [MemberData(nameof(Policies))]
    public void A_budget_binds_and_what_must_stay_stays(string policy)
    {
        Assert.True(TightCaches.Names.Count * Caches * Operations >= 200_000);
        var done = new Dictionary<string, int>();
        for (int seed = 1; seed <= Caches * Soak.Factor; seed++)
        {
            using var run = new RandomEvictions(policy, seed);
            try
            {
                run.Run(Operations);
                run.Finish();
            }
            catch
            {
                output.WriteLine($"seed {seed}, {string.Join(", ", run.Done.Select(d => $"{d.Key} {d.Value}"))}");
                throw;
            }

            foreach ((string kind, int count) in run.Done)
            {
                done[kind] = done.GetValueOrDefault(kind) + count;
            }
        }

        output.WriteLine(string.Join(", ", done.Select(d => $"{d.Key} {d.Value}")));
        string[] kinds = ["create", "fork", "free", "truncate", "pin", "unpin", "segment", "step", "batch step", "abandon", "non-finite", "refused", "dropped"];
        kinds = policy.EndsWith("adaptive", StringComparison.Ordinal) ? [.. kinds, "demoted"] : kinds;
        kinds = policy.StartsWith("merge:", StringComparison.Ordinal) ? [.. kinds, "merged"] : kinds;
        Assert.All(kinds, kind => Assert.True(done.GetValueOrDefault(kind) > 30, $"{kind} ran {done.GetValueOrDefault(kind)} times"));
    }
}
