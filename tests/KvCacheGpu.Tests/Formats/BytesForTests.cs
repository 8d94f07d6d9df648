using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

public sealed class BytesForTests
{
    private static readonly KvGeometry G = new(layers: 9, queryHeads: 4, kvHeads: 2, keyWidth: 32, pageTokens: 16);

    [Fact]
    public void Bytes_known_before_are_those_of_the_cache_to_the_byte()
    {
        foreach (KvFormats formats in TestCaches.NaturalPairs)
        {
            foreach (int variant in Enumerable.Range(0, 6))
            {
                var config = new KvCacheOptions
                {
                    Device = "cpu",
                    MaxTokens = 1000 + variant,
                    MaxSequences = 1 + variant,
                    MaxBatchTokens = 64,
                    KeyFormat = formats.Key,
                    ValueFormat = formats.Value,
                    PrefixReuse = variant % 2 == 1,
                    Policy = variant is 2 or > 3 ? new WindowPolicy(64) : null,
                    Offload = variant > 3 ? new KvOffload(1 << 20) { StagedPages = variant == 4 ? null : 10 } : null,
                    DemotionFormats = variant == 3 ? [new(PageFormat.T2, PageFormat.V2)] : [],
                };
                KvCacheBytes bytes = KvCache.BytesFor(G, config);
                Check(bytes, config);
                config.MemoryBudgetBytes = bytes.MinimumBytes;
                Check(KvCache.BytesFor(G, config), config);
                config.MemoryBudgetBytes--;
                Assert.Throws<KvConfigurationException>(() => new KvCache(G, config));
                Assert.Throws<KvConfigurationException>(() => KvCache.BytesFor(G, config));
            }
        }
    }

    [Fact]
    public void A_small_cache_has_scratch_for_one_thread_and_a_large_one_for_all()
    {
        var config = new KvCacheOptions { Device = "cpu", MaxTokens = 2_048, KeyFormat = PageFormat.T4, ValueFormat = PageFormat.V4 };
        Assert.Equal(Of(G, threads: 1), KvCache.BytesFor(G, config));
        var large = new KvGeometry(layers: 64, queryHeads: 8, kvHeads: 8, keyWidth: 128);
        Assert.Equal(Of(large, threads: 0), KvCache.BytesFor(large, config));

        KvCacheBytes Of(KvGeometry geometry, int threads) =>
            CacheCreation.BytesFor(geometry, config, (shape, bytes, observer) => new SimdTier(shape, bytes, SimdLevel.Auto, threads, observer));
    }

    private static void Check(KvCacheBytes bytes, KvCacheOptions config)
    {
        using var cache = new KvCache(G, config);
        Assert.Equal((bytes.ReservedBytes, bytes.CreatedBytes, bytes.BudgetBytes), (cache.ReservedBytes, cache.AllocatedBytes, cache.BudgetBytes));
    }
}
