using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

/// <summary>Scenario 26, and that poison is all that it changes.</summary>
public sealed class PoisonTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Theory]
    [InlineData(PageFormat.F32)]
    [InlineData(PageFormat.F16)]
    [InlineData(PageFormat.I8)]
    public void S26_freed_pages_hold_DB_and_fresh_ones_NaN(PageFormat format)
    {
        KvCacheOptions config = TestCaches.Config(format);
        config.PoisonPages = true;
        using KvCache cache = TestCaches.Simd(G, config);
        KvSequence sequence = cache.CreateSequence();
        sequence.FeedMany(1, 12);
        using (sequence.Begin([13]))
        {
            PageLayout open = cache.State.Tier.Shape.Classes[KernelShape.Open];
            int[] fresh = Words(cache, sequence.State.Table.Slot(0, 3), open);
            Assert.All(fresh, word => Assert.Equal(PageScrub.FreshWord, word));
            Assert.True(float.IsNaN(BitConverter.Int32BitsToSingle(fresh[0])));
            Assert.True(Half.IsNaN(BitConverter.Int16BitsToHalf((short)fresh[0])));
            Assert.True(float.IsNaN(BitConverter.Int32BitsToSingle(fresh[0] << 16)));
        }

        int slot = sequence.State.Table.Slot(1, 0);
        PageLayout layout = cache.State.Tier.Shape.Classes[sequence.State.Table.PageClass(1, 0)];
        sequence.Dispose();
        Assert.All(Words(cache, slot, layout), word => Assert.Equal(unchecked((int)0xDBDBDBDB), word));
    }

    [Theory]
    [InlineData(PageFormat.F32, 0)]
    [InlineData(PageFormat.F16, 9)]
    [InlineData(PageFormat.I8, 0)]
    [InlineData(PageFormat.I8, 9)]
    public void Nothing_that_is_read_is_poison(PageFormat format, int window)
    {
        KvCacheOptions config = TestCaches.Config(format);
        config.PrefixReuse = true;
        config.Policy = window == 0 ? null : new WindowPolicy(window);
        using KvCache plain = TestCaches.Simd(G, config);
        config.PoisonPages = true;
        using KvCache poisoned = TestCaches.Simd(G, config);
        Assert.Equal(Life(plain), Life(poisoned));

        static int[] Life(KvCache cache)
        {
            var text = new List<int>();
            for (int i = 0; i < 6; i++)
            {
                using KvSequence sequence = cache.CreateSequence(new KvSequenceOptions { Tenant = $"{i % 2}" });
                int[] prompt = [.. Enumerable.Range(0, 30), i];
                sequence.Reuse(prompt);
                text.AddRange(sequence.Generate(prompt, 20));
                using KvSequence fork = sequence.Fork();
                fork.Truncate(fork.Length - 11);
                text.AddRange(fork.Generate([.. fork.TokenIds, 7], 9));
            }

            return [.. text];
        }
    }

    private static int[] Words(KvCache cache, int slot, PageLayout layout)
    {
        var words = new int[layout.Units * PageLayout.UnitWords];
        cache.State.Tier.Read((long)slot * PageLayout.UnitWords, words);
        return words;
    }
}
