using KvCacheGpu.Kernels;
using Xunit;

namespace KvCacheGpu.TestKit;

/// <summary>Pages that go to host memory and come back.</summary>
public abstract partial class PageConformance<TTier>
{
    /// <summary>Pages of two sizes, the larger one of several parts, between the places of two blocks and slots in no order; more than one launch lists.</summary>
    [Theory]
    [InlineData(PageFormat.F16, PageFormat.I8, PageFormat.V4, 40)]
    [InlineData(PageFormat.F32, PageFormat.T2, PageFormat.V2, 1100)]
    public void Pages_go_to_host_memory_and_come_back_bit_for_bit(PageFormat open, PageFormat key, PageFormat value, int pages)
    {
        var geometry = new KvGeometry(1, 1, 1, 64, pageTokens: open == PageFormat.F32 ? 4 : 64);
        KernelShape shape = Shapes.Mixed(geometry, open, key, value);
        using var harness = new TierHarness(TTier.Create, shape, 2 * pages);
        PageTransfers transfers = harness.Tier.Transfers;
        int largest = shape.Classes.Max(layout => layout.Units);
        using HostBlock first = transfers.Allocate(largest * pages);
        using HostBlock second = transfers.Allocate(largest * pages);
        var random = new Random(pages);
        int[][] words = new int[pages][];
        var outs = new PageTransfer[pages];
        for (int i = 0; i < pages; i++)
        {
            int units = shape.Classes[i % 3 == 0 ? KernelShape.Sealed : KernelShape.Open].Units;
            words[i] = [.. Enumerable.Range(0, units * PageLayout.UnitWords).Select(_ => random.Next(int.MinValue, int.MaxValue))];
            outs[i] = new PageTransfer(harness.TakeSlot(), i < pages / 2 ? first : second, (pages - 1 - i) * largest, units);
            harness.Tier.Load((long)outs[i].Slot * PageLayout.UnitWords, words[i]);
        }

        transfers.Unload(outs);
        harness.Tier.Synchronize();
        Assert.All(Enumerable.Range(0, pages), i => Assert.True(outs[i].Block.Words(outs[i].Unit, outs[i].Units).SequenceEqual(words[i]), $"page {i} in the host"));
        int[] slots = [.. Enumerable.Range(0, pages).Select(_ => harness.TakeSlot())];
        random.Shuffle(slots);
        foreach (int slot in slots)
        {
            harness.Tier.Load((long)slot * PageLayout.UnitWords, new int[largest * PageLayout.UnitWords]);
        }

        transfers.Load([.. outs.Select((page, i) => page with { Slot = slots[i] })], transfers.Mark());
        for (int i = 0; i < pages; i++)
        {
            int[] back = new int[largest * PageLayout.UnitWords];
            harness.Tier.Read((long)slots[i] * PageLayout.UnitWords, back);
            Assert.True(back.AsSpan(0, words[i].Length).SequenceEqual(words[i]) && !back.AsSpan(words[i].Length).ContainsAnyExcept(0), $"page {i} in its slot");
        }

        transfers.WaitForLoads();
    }

    /// <summary>A slot is written behind the work that its mark names and before all that is enqueued later, whichever of the two is waited for first, and the host's memory is free after the wait for it.</summary>
    [Fact]
    public void A_page_comes_between_the_work_before_its_mark_and_the_work_after_its_load()
    {
        KernelShape shape = Shapes.Plain(new KvGeometry(1, 1, 1, 64, pageTokens: 16), PageFormat.F32);
        using var harness = new TierHarness(TTier.Create, shape, 8);
        PageTransfers transfers = harness.Tier.Transfers;
        int units = shape.Classes[KernelShape.Open].Units;
        using HostBlock block = transfers.Allocate(2 * units);
        int[] slots = [.. Enumerable.Range(0, 3).Select(_ => harness.TakeSlot())];
        for (int round = 1; round < 4; round++)
        {
            int[] before = [.. Enumerable.Range(0, units * PageLayout.UnitWords).Select(i => BitConverter.SingleToInt32Bits(i + round))];
            int[] after = [.. before.Select((_, i) => BitConverter.SingleToInt32Bits(-i - round))];
            harness.Tier.Load((long)slots[0] * PageLayout.UnitWords, before);
            harness.Tier.Transcode([new PageMove(slots[0], KernelShape.Open, slots[1], KernelShape.Open, 16)]);
            long mark = transfers.Mark();
            after.CopyTo(block.Words(units, units));
            transfers.Load([new PageTransfer(slots[0], block, units, units)], mark);
            transfers.WaitForLoads();
            block.Words(units, units).Fill(0x7F800001);
            harness.Tier.Transcode([new PageMove(slots[0], KernelShape.Open, slots[2], KernelShape.Open, 16)]);
            int[] first = new int[2 * 16 * 64];
            int[] second = new int[first.Length];
            harness.Tier.Read((long)slots[1] * PageLayout.UnitWords, first);
            harness.Tier.Read((long)slots[2] * PageLayout.UnitWords, second);
            Assert.Equal(before[..first.Length], first);
            Assert.Equal(after[..second.Length], second);
        }
    }
}
