using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

/// <summary>Memory comes back when sequences go, and what lives on does not hold more of it than it needs.</summary>
public sealed class FragmentationTests
{
    // Free slots between live sealed pages: pages do not move while nothing lacks their room, so that a slab stays in use as long as one page of it lives. All rows of
    // a sequence open pages together and in whole slabs, so that between open pages nothing is lost.
    private const double Lost = 0.12;

    private static readonly KvGeometry G = new(layers: 2, queryHeads: 4, kvHeads: 2, keyWidth: 32, pageTokens: 16);

    private static readonly int[] FirstLengths = [.. Enumerable.Range(0, 48).Select(i => 1 + (i * i * 37 % 800))];

    [Theory]
    [InlineData(16, false, false, 100)]
    [InlineData(64, false, false, 100)]
    [InlineData(16, false, true, 100)]
    [InlineData(16, true, false, 100)]
    [InlineData(16, true, true, 100)]
    [InlineData(16, false, false, 60)]
    [InlineData(16, true, false, 50)]
    [InlineData(16, false, true, 40)]
    [InlineData(16, true, true, 40)]
    public void After_thousands_of_sequences_memory_is_as_it_was(int pageTokens, bool reuse, bool hasPolicy, int budgetPercent)
    {
        var geometry = new KvGeometry(G.Layers, G.QueryHeads, G.KvHeads, G.KeyWidth, pageTokens: pageTokens);
        KvCacheOptions options = new()
        {
            Device = "cpu",
            MaxTokens = 32_768,
            MaxSequenceTokens = 4_096,
            MaxSequences = 64,
            KeyFormat = PageFormat.T4,
            ValueFormat = PageFormat.V4,
            PrefixReuse = reuse,
            Policy = hasPolicy ? new WindowPolicy(512) : null,
        };
        options.MemoryBudgetBytes = KvCache.BytesFor(geometry, options).BudgetBytes * budgetPercent / 100;
        using KvCache cache = TestCaches.Simd(geometry, options);
        PagePool pool = cache.State.Pool;
        long empty = cache.AllocatedBytes;
        var life = new MixedLife(cache, seed: pageTokens + budgetPercent);
        Array.ForEach(FirstLengths, life.Add);
        (long bytes, int slabs) = Used();
        int openSlabs = OpenSlabs();
        int turns = 4 * Soak.Factor;
        for (int turn = 0; turn < turns; turn++)
        {
            life.Run(2_000, atOnce: 60, longest: 3_000);
            ReplaceAll();
            if (!hasPolicy && !reuse && budgetPercent == 100)
            {
                Assert.Equal(FirstLengths.Length, life.Live);

                // The same sequences beside each other as at the beginning: nothing was empty in between.
                (long bytesNow, int slabsNow) = Used();
                Assert.Equal(bytes, bytesNow);
                Assert.InRange(slabsNow, 1, slabs * (1 + Lost));
                Assert.Equal(openSlabs, OpenSlabs());
            }
        }

        Assert.InRange(life.Begun, 1_500 * Soak.Factor, int.MaxValue);
        Assert.True(budgetPercent == 100 || hasPolicy || life.Refused > 0, "the budget never ran out");
        life.DropAll();
        Assert.True(cache.State.Prefixes is null || cache.TryClearPrefixes());
        Assert.Equal(default, cache.GetPageCounts());
        Assert.Equal((empty, 0, pool.SlabCount), (cache.AllocatedBytes, pool.Leaves, pool.FreeSlabs));

        // Empty, it is as new: the same sequences take the same.
        Array.ForEach(FirstLengths, life.Add);
        Assert.Equal((bytes, slabs), Used());

        (long Bytes, int Slabs) Used() => (cache.AllocatedBytes - empty, pool.SlabCount - pool.FreeSlabs);

        int OpenSlabs()
        {
            int units = cache.State.Tier.Shape.Classes[KernelShape.Open].Units;
            return Enumerable.Range(0, pool.SlabCount).Count(slab => pool.LiveIn(slab) > 0 && pool.UnitsOf(slab) == units);
        }

        // The oldest go, one after the other, while the first set of sequences comes again.
        void ReplaceAll()
        {
            int old = life.Live;
            for (int i = 0; i < FirstLengths.Length || old > 0; i++)
            {
                if (old > 0)
                {
                    life.DropOldest();
                    old--;
                }

                if (i < FirstLengths.Length)
                {
                    life.Add(FirstLengths[i]);
                }
            }
        }
    }
}
