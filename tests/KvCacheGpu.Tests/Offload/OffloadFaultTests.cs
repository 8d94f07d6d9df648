using KvCacheGpu.Kernels;
using static KvCacheGpu.Tests.OffloadCaches;

namespace KvCacheGpu.Tests;

/// <summary>Copies to host memory and back that fail at random moments.</summary>
public sealed class OffloadFaultTests
{
    private static readonly KvFormats F16 = new(PageFormat.F16, PageFormat.F16);

    /// <summary>A step that a failed copy ends is done again: what is attended to in the end is what a cache attends to that never fails.</summary>
    [Theory]
    [InlineData(1, null)]
    [InlineData(2, null)]
    [InlineData(3, 8)]
    public void A_copy_that_fails_ends_its_step_and_nothing_else(int seed, int? places)
    {
        KvCacheOptions options = SmallOptions("lru", F16);
        options.Offload = options.Offload! with { StagedPages = places ?? options.Offload.StagedPages };
        using KvCache cache = Faulty(options, seed, out FaultyTransfers faults);
        using KvCache whole = TestCaches.Simd(Flat, Plain(Flat, F16, 600));
        using KvSequence sequence = cache.CreateSequence();
        using KvSequence expected = whole.CreateSequence();
        faults.Rates = (.15, .1, 0);
        int again = 0;
        for (int first = 0; first < 480; first += 8)
        {
            int[] ids = [.. Enumerable.Range(first, 8)];
            float[] wanted = Step(expected, ids);
            while (true)
            {
                int length = sequence.Length;
                try
                {
                    float[] got = Step(sequence, ids);
                    AreClose(wanted, got);
                    break;
                }
                catch (InvalidOperationException e) when (e.Message.StartsWith("expected a device", StringComparison.Ordinal))
                {
                    again++;
                    if (sequence.Length > length)
                    {
                        // It was committed, and a page found no way out afterwards.
                        break;
                    }
                }
            }
        }

        KvOffloadCounts counts = cache.GetOffloadCounts();
        Assert.True(again > 3 && faults.Failed >= again, $"{again} {faults.Failed}");
        Assert.True(counts is { Dropped: 0, LeftOut: 0 } && counts.Pages > 100, $"{counts}");
        Assert.Equal((480, 0), (sequence.Length, sequence.EvictedTokens));
        sequence.Dispose();
        Assert.Equal((0, 0), (cache.GetOffloadCounts().Pages, cache.GetOffloadCounts().Bytes));
    }

    [Fact]
    public void Memory_that_the_machine_does_not_give_counts_as_full()
    {
        KvCacheOptions options = SmallOptions("lru", F16);
        options.Offload = options.Offload! with { BudgetBytes = 400_000 };
        using KvCache cache = Faulty(options, 4, out FaultyTransfers faults);
        using KvSequence sequence = cache.CreateSequence();
        faults.Rates = (0, 0, .5);
        for (int first = 0; first < 480; first += 8)
        {
            Step(sequence, [.. Enumerable.Range(first, 8)]);
        }

        KvOffloadCounts counts = cache.GetOffloadCounts();
        Assert.True(counts is { Pages: > 20, Dropped: > 20 } && faults.Failed > 10, $"{counts}");
        Assert.True(sequence.EvictedTokens > 0);
    }

    private static KvCache Faulty(KvCacheOptions options, int seed, out FaultyTransfers faults)
    {
        FaultyTransfers? made = null;
        var cache = new KvCache(Flat, options, (shape, bytes, seen) =>
        {
            var inner = new SimdTier(shape, bytes, SimdLevel.Auto, 1, seen);
            made = new FaultyTransfers(inner, seed);
            return new HookedTier(inner, _ => { }) { Replaced = made };
        });
        faults = made!;
        return cache;
    }
}
