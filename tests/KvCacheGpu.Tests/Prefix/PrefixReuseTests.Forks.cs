using KvCacheGpu.Kernels;
using static KvCacheGpu.Tests.BlockIndexFixture;

namespace KvCacheGpu.Tests;

/// <content>Forks and cuts of reused prefixes.</content>
public sealed partial class PrefixReuseTests
{
    [Theory]
    [InlineData(0, 1, 2)]
    [InlineData(0, 2, 1)]
    [InlineData(1, 0, 2)]
    [InlineData(1, 2, 0)]
    [InlineData(2, 0, 1)]
    [InlineData(2, 1, 0)]
    public void S25_a_fork_of_a_fork_may_go_in_every_order_and_its_prefix_is_still_hit(int first, int second, int third)
    {
        using KvCache cache = TestCaches.Reference(G, Sharing());
        KvSequence parent = cache.CreateSequence();
        parent.FeedMany(1, 22);
        KvSequence child = parent.Fork();
        KvSequence grandchild = child.Fork();
        KvSequence[] family = [parent, child, grandchild];
        for (int i = 0; i < 3; i++)
        {
            family[i].FeedMany(100 * (i + 1), 9);
        }

        foreach (int gone in (int[])[first, second, third])
        {
            family[gone].Dispose();
            using KvSequence hit = cache.CreateSequence();
            int[] prompt = [.. Range(1, 22), .. Range(100 * (gone + 1), 9)];
            Assert.Equal(24, hit.Reuse(prompt));
            Assert.Equal(TokenContent.Keys(G, 1, prompt.AsSpan(0, 24)), hit.Materialized(1).Keys);
        }

        Assert.Equal(cache.CachedBytes, cache.State.Pool.BytesOf(SlotCounts.Of(KernelShape.Sealed, cache.GetPageCounts().Sealed)));
    }

    [Fact]
    public void S25_cut_below_the_shared_prefix_a_sequence_copies_and_never_writes()
    {
        using KvCache cache = TestCaches.Reference(G, Sharing());
        KvSequence parent = cache.CreateSequence();
        parent.FeedMany(1, 24);
        using KvSequence reusing = cache.CreateSequence();
        Assert.Equal(20, reusing.Reuse(Range(1, 24)));
        using KvSequence fork = parent.Fork();
        parent.Dispose();
        reusing.Truncate(6);
        reusing.FeedMany(50, 9);
        fork.Truncate(9);
        fork.FeedMany(70, 9);
        Assert.Equal(TokenContent.Keys(G, 0, [.. Range(1, 6), .. Range(50, 9)]), reusing.Materialized(0).Keys);
        Assert.Equal(TokenContent.Keys(G, 0, [.. Range(1, 9), .. Range(70, 9)]), fork.Materialized(0).Keys);
        using KvSequence hit = cache.CreateSequence();
        Assert.Equal(20, hit.Reuse(Range(1, 24)));
        Assert.Equal(TokenContent.Keys(G, 0, Range(1, 20)), hit.Materialized(0).Keys);
    }

    [Theory]
    [InlineData(64, PageFormat.F16)]
    [InlineData(64, PageFormat.I8)]
    [InlineData(32, PageFormat.F16)]
    public void Eight_forks_of_a_4k_prompt_cost_less_than_1_1_of_one(int pageTokens, PageFormat format)
    {
        var geometry = new KvGeometry(layers: 4, queryHeads: 4, kvHeads: 4, keyWidth: 64, pageTokens: pageTokens);
        KvCacheOptions config = Sharing(format, maxTokens: 8192, maxSequences: 18);
        (config.MaxBatchTokens, config.FullPrecision) = (512, PageFormat.F16);
        using KvCache cache = TestCaches.Simd(geometry, config);
        long empty = cache.AllocatedBytes;
        KvSequence prompt = cache.CreateSequence();
        prompt.FeedMany(1, 4096, chunk: 512);
        long one = cache.AllocatedBytes - empty;
        KvSequence[] forks = [.. Enumerable.Range(0, 8).Select(_ => prompt.Fork())];
        Assert.InRange((double)(cache.AllocatedBytes - empty) / one, 1, 1.1);

        // A fork that writes on takes an open page, whatever the prompt's length: 8 of 64 tokens each are already an eighth of 4k.
        for (int i = 0; i < 8; i++)
        {
            forks[i].Feed(10_000 + i);
        }

        long openPages = 8L * 4 * 4 * cache.State.Tier.Shape.Classes[KernelShape.Open].Bytes;
        Assert.InRange((double)(cache.AllocatedBytes - empty - openPages) / one, 1, 1.1);
        Assert.True(pageTokens == 64 || cache.AllocatedBytes - empty < 1.1 * one, $"{(double)(cache.AllocatedBytes - empty) / one}");

        // A sequence that reuses the prompt shares as much as a fork, except the page that is not sealed yet.
        long before = cache.GetPageCounts().Open + cache.GetPageCounts().Sealed;
        KvSequence[] reusing = [.. Enumerable.Range(0, 8).Select(_ => cache.CreateSequence())];
        Assert.All(reusing, s => Assert.Equal(4096 - pageTokens, s.Reuse(Range(1, 4096))));
        Assert.Equal(before, cache.GetPageCounts().Open + cache.GetPageCounts().Sealed);
    }
}
