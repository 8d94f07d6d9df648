using KvCacheGpu.Kernels;
using static KvCacheGpu.Tests.BlockIndexFixture;

namespace KvCacheGpu.Tests;

/// <summary>The same on the kernels that a GPU runs.</summary>
public sealed class PortablePrefixTests
{
    private static readonly KvGeometry G = TestCaches.Tiny;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Generation_with_reuse_is_generation_without(bool poison)
    {
        int[] prompt = Range(1, 22);
        KvCacheOptions config = TestCaches.Config(PageFormat.F16, maxTokens: 64);
        (config.Device, config.PrefixReuse, config.PoisonPages) = ("ilgpu-cpu", true, poison);
        using var cache = new KvCache(G, config);
        using KvSequence first = cache.CreateSequence();
        int[] expected = first.Generate(prompt, 6);
        using KvSequence second = cache.CreateSequence();
        Assert.Equal(21, second.Reuse(prompt));
        Assert.Equal(expected, second.Generate(prompt, 6));
    }

    [Fact]
    public void Pages_are_zeroed_before_another_tenant_takes_them()
    {
        KvCacheOptions config = TestCaches.Config(PageFormat.I8, maxTokens: 32, maxSequences: 1);
        config.Device = "ilgpu-cpu";
        using var cache = new KvCache(G, config);
        using (KvSequence a = cache.CreateSequence(new KvSequenceOptions { Tenant = "a" }))
        {
            a.FeedMany(1, 32);
        }

        using KvSequence b = cache.CreateSequence(new KvSequenceOptions { Tenant = "b" });
        using KvStep step = b.Begin(Range(1, 32));
        for (int row = 0; row < b.State.Table.Rows; row++)
        {
            for (int entry = 0; entry < b.State.Table.Count(row); entry++)
            {
                var words = new int[cache.State.Tier.Shape.Classes[KernelShape.Open].Units * PageLayout.UnitWords];
                cache.State.Tier.Read((long)b.State.Table.Slot(row, entry) * PageLayout.UnitWords, words);
                Assert.All(words, word => Assert.Equal(0, word));
            }
        }
    }
}
