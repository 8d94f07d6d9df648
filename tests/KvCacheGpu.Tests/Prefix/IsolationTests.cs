using System.Runtime.InteropServices;
using KvCacheGpu.Kernels;
using static KvCacheGpu.Tests.BlockIndexFixture;

namespace KvCacheGpu.Tests;

/// <summary>No tenant ever sees a byte of another.</summary>
public sealed class IsolationTests
{
    [Theory]
    [InlineData(PageFormat.F32, false)]
    [InlineData(PageFormat.I8, false)]
    [InlineData(PageFormat.I8, true)]
    public void No_canary_survives_a_change_of_tenants(PageFormat format, bool reuse)
    {
        const int Pages = 16;
        const float Canary = 1.2345678f;
        var geometry = new KvGeometry(layers: 1, queryHeads: 1, kvHeads: 1, keyWidth: 8, pageTokens: 4);
        KvCacheOptions config = TestCaches.Config(format, maxTokens: 128, maxSequences: 3, maxBatchTokens: Pages * 4);
        config.PrefixReuse = reuse;
        using KvCache cache = TestCaches.Simd(geometry, config);
        var keys = new float[Pages * 4 * 8];
        var random = new Random(5);
        int reused = 0;
        int foreign = 0;
        var owners = new Dictionary<int, int>();
        var words = new int[cache.State.Tier.Shape.Classes.Max(c => c.Units) * PageLayout.UnitWords];
        for (int round = 0; reused < 100_000; round++)
        {
            int tenant = random.Next(3);
            using KvSequence sequence = cache.CreateSequence(new KvSequenceOptions { Tenant = tenant == 0 ? null : $"{tenant}" });
            int tokens = 1 + random.Next(Pages * 4);
            using KvStep step = sequence.Begin(Range(round * 100, tokens));
            for (int entry = 0; entry < sequence.State.Table.Count(0); entry++)
            {
                int slot = sequence.State.Table.Slot(0, entry);
                Span<int> page = words.AsSpan(0, cache.State.Tier.Shape.Classes[KernelShape.Open].Units * PageLayout.UnitWords);
                cache.State.Tier.Read((long)slot * PageLayout.UnitWords, page);
                if (owners.TryGetValue(slot, out int before) && before != tenant)
                {
                    foreign++;
                    Assert.Equal(-1, page.IndexOfAnyExcept(0));
                }

                owners[slot] = tenant;
                reused++;
            }

            keys.AsSpan(0, tokens * 8).Fill(Canary * (tenant + 1));
            step.Append(0, keys.AsSpan(0, tokens * 8), keys.AsSpan(0, tokens * 8));
            step.Commit();
            AssertOwn(cache, sequence, tenant, Canary, words);
        }

        Assert.True(foreign > 30_000, $"{foreign} of {reused} pages changed their tenant");
    }

    [Fact]
    public void A_slab_that_changes_its_size_hides_what_lay_across_its_slots()
    {
        KvCacheOptions config = TestCaches.Config(PageFormat.I8, maxTokens: 64, maxSequences: 2, maxBatchTokens: 64);
        config.FullPrecision = PageFormat.F32;
        var geometry = new KvGeometry(layers: 1, queryHeads: 1, kvHeads: 1, keyWidth: 8, pageTokens: 4);
        using (KvCache roomy = TestCaches.Simd(geometry, config))
        {
            config.MemoryBudgetBytes = roomy.BudgetBytes * 95 / 100;
        }

        using KvCache cache = TestCaches.Simd(geometry, config);
        for (int round = 0; round < 200; round++)
        {
            float canary = round % 2 == 0 ? 1.5f : 1.75f;
            using KvSequence sequence = cache.CreateSequence(new KvSequenceOptions { Tenant = $"{round % 2}" });
            for (int i = 0; i < (round % 4 < 2 ? 40 : 1) && sequence.CanAppend(i % 3 == 0 ? 3 : 1); i++)
            {
                int tokens = i % 3 == 0 ? 3 : 1;
                using KvStep step = sequence.Begin(new int[tokens]);
                AssertFree(cache, sequence, round % 2 == 0 ? 1.75f : 1.5f);
                var keys = new float[tokens * 8];
                keys.AsSpan().Fill(canary);
                step.Append(0, keys, keys);
                step.Commit();
            }
        }
    }

    private static void AssertOwn(KvCache cache, KvSequence sequence, int tenant, float canary, int[] words)
    {
        for (int entry = 0; entry < sequence.State.Table.Count(0); entry++)
        {
            PageLayout layout = cache.State.Tier.Shape.Classes[sequence.State.Table.PageClass(0, entry)];
            Span<int> page = words.AsSpan(0, layout.Units * PageLayout.UnitWords);
            cache.State.Tier.Read((long)sequence.State.Table.Slot(0, entry) * PageLayout.UnitWords, page);
            for (int other = 0; other < 3; other++)
            {
                if (other != tenant)
                {
                    Assert.False(page.Contains(BitConverter.SingleToInt32Bits(canary * (other + 1))), $"tenant {other}'s canary in a page of tenant {tenant}");
                }
            }
        }
    }

    private static void AssertFree(KvCache cache, KvSequence sequence, float canary)
    {
        for (int entry = 0; entry < sequence.State.Table.Count(0); entry++)
        {
            PageLayout layout = cache.State.Tier.Shape.Classes[sequence.State.Table.PageClass(0, entry)];
            var page = new int[layout.Units * PageLayout.UnitWords];
            cache.State.Tier.Read((long)sequence.State.Table.Slot(0, entry) * PageLayout.UnitWords, page);
            Assert.DoesNotContain(canary, MemoryMarshal.Cast<int, float>(page).ToArray());
        }
    }
}
