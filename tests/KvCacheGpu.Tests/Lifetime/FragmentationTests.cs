using Xunit.Abstractions;

namespace KvCacheGpu.Tests;

/// <summary>Memory comes back, and what lives on does not hold more of it than it needs.</summary>
public sealed class FragmentationTests(ITestOutputHelper output)
{
    private static readonly KvGeometry G = new(layers: 2, queryHeads: 4, kvHeads: 2, keyWidth: 32, pageTokens: 16);
    private static readonly KvGeometry Wide = new(layers: 2, queryHeads: 4, kvHeads: 2, keyWidth: 32, pageTokens: 64);

    [Theory]
    [InlineData(16, false, false, 0)]
    [InlineData(16, true, false, 0)]
    [InlineData(16, false, true, 0)]
    [InlineData(16, true, true, 0)]
    [InlineData(64, false, false, 0)]
    [InlineData(16, false, false, 60)]
    [InlineData(16, true, true, 60)]
    public void Explore(int page, bool reuse, bool policy, int percent)
    {
        KvGeometry g = page == 16 ? G : Wide;
        KvCacheOptions options = new()
        {
            Device = "cpu",
            MaxTokens = 32_768,
            MaxSequenceTokens = 4_096,
            MaxSequences = 64,
            KeyFormat = PageFormat.T4,
            ValueFormat = PageFormat.V4,
            PrefixReuse = reuse,
            Policy = policy ? new WindowPolicy(512) : null,
        };
        if (percent > 0)
        {
            options.MemoryBudgetBytes = KvCache.BytesFor(g, options).BudgetBytes * percent / 100;
        }

        using KvCache cache = TestCaches.Simd(g, options);
        long empty = cache.AllocatedBytes;
        int[] lengths = [.. Enumerable.Range(0, 48).Select(i => 1 + (i * i * 37 % 800))];
        PagePool pool = cache.State.Pool;
        var life = new MixedLife(cache, 1);
        Array.ForEach(lengths, life.Add);
        (long bytes, int slabs) = (cache.AllocatedBytes - empty, pool.SlabCount - pool.FreeSlabs);
        life.Run(6000, 56, 3000);
        output.WriteLine($"slabs {pool.SlabCount} first {slabs} bytes {bytes} middle: begun {life.Begun} refused {life.Refused} live {life.Live} bytes {cache.AllocatedBytes - empty} cached {cache.CachedBytes} slabs {pool.SlabCount - pool.FreeSlabs} live bytes {pool.LiveBytes} of {(pool.SlabCount - pool.FreeSlabs) * (long)cache.State.Tier.Map.LeafBytes}");
        int before = life.Live;
        for (int i = 0; i < lengths.Length || life.Live > lengths.Length; i++)
        {
            if (life.Live >= lengths.Length || before > 0)
            {
                life.DropOldest();
                before--;
            }

            if (i < lengths.Length)
            {
                life.Add(lengths[i]);
            }
        }

        output.WriteLine($"after: live {life.Live} bytes {cache.AllocatedBytes - empty} cached {cache.CachedBytes} slabs {pool.SlabCount - pool.FreeSlabs} ratio {(double)(pool.SlabCount - pool.FreeSlabs) / slabs}");
        life.DropAll();
        output.WriteLine($"end: {cache.AllocatedBytes - empty} cached {cache.CachedBytes} free {pool.FreeSlabs} of {pool.SlabCount}; leafBytes {cache.State.Tier.Map.LeafBytes} pages {cache.State.Tier.Map.LeafPages}");
    }
}
