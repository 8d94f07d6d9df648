using System.Runtime.InteropServices;
using static KvCacheGpu.Tests.Tiers.TierBlocks;

namespace KvCacheGpu.Tests.Tiers;

/// <summary>Blocks in host memory: what is kept, what goes, and whose memory it is.</summary>
public sealed class HostTierTests
{
    private readonly Dictionary<nint, int> _allocated = [];
    private int _refuseFrom = int.MaxValue;

    [Fact]
    public async Task Blocks_come_back_up_to_the_first_that_is_not_there()
    {
        using var tier = new KvHostTier(1 << 20);
        Assert.Equal(("host", 0L, 1L << 20), (tier.Name, tier.BytesInUse, tier.BytesLimit));
        Assert.Equal(3, await tier.PutAsync(100, 1, 2, 4));
        Assert.Equal(2, await tier.GetAsync(100, 1, 2, 3, 4));
        Assert.Equal(0, await tier.GetAsync(100, 3, 4));
        Assert.Equal(new KvTierCounts(2, 4, 3, 200, 300, 0, null), tier.Counts);
        Assert.Equal(300, tier.BytesInUse);
    }

    [Fact]
    public async Task What_is_there_is_not_written_again()
    {
        using var tier = new KvHostTier(1000);
        Assert.Equal((2, 1, 0), (await tier.PutAsync(100, 1, 2), await tier.PutAsync(100, 1, 3, 2), await tier.PutAsync(100, 3)));
        Assert.Equal(300, tier.BytesInUse);
    }

    [Fact]
    public async Task Reading_is_use_and_the_end_of_a_prefix_goes_before_its_beginning()
    {
        using var tier = new KvHostTier(400);
        await tier.PutAsync(100, 1, 2, 3, 4);
        await tier.PutAsync(100, 5);
        await tier.HoldsAsync(100, of: [1, 2, 3, 4, 5], [1, 2, 3, 5]);
        await tier.GetAsync(100, 1);
        await tier.PutAsync(100, 6, 7);
        await tier.HoldsAsync(100, of: [1, 2, 3, 5, 6, 7], [1, 5, 6, 7]);
    }

    [Fact]
    public async Task Of_a_run_longer_than_the_limit_the_beginning_is_kept()
    {
        using var tier = new KvHostTier(350);
        Assert.Equal(3, await tier.PutAsync(100, 1, 2, 3, 4, 5));
        Assert.Equal(3, await tier.GetAsync(100, 1, 2, 3, 4));
    }

    [Fact]
    public async Task A_block_above_the_limit_is_left_out_and_said()
    {
        using var tier = new KvHostTier(99);
        Assert.Equal(0, await tier.PutAsync(100, 1));
        Assert.Contains("E003", tier.Counts.LastError, StringComparison.Ordinal);
        Assert.Equal(0, tier.BytesInUse);
    }

    [Fact]
    public void A_limit_below_one_byte_is_refused() => Assert.Throws<ArgumentOutOfRangeException>("bytesLimit", () => new KvHostTier(0));

    [Fact]
    public async Task Memory_is_taken_as_blocks_come_and_never_above_the_limit()
    {
        var random = new Random(3);
        using (KvHostTier tier = Counted(1000))
        {
            Assert.Empty(_allocated);
            for (int i = 0; i < 2000; i++)
            {
                int length = random.Next(1, 5) * 50;
                int first = random.Next(40) * 100;
                await tier.PutAsync(length, first + length, first + length + 1, first + length + 2);
                Assert.Equal(tier.BytesInUse, _allocated.Values.Sum());
                Assert.InRange(_allocated.Values.Sum(), 1, 1000);
            }
        }

        Assert.Empty(_allocated);
    }

    [Fact]
    public async Task Scenario_24_a_store_without_memory_leaves_nothing()
    {
        using KvHostTier tier = Counted(1000);
        await tier.PutAsync(100, 1);
        _refuseFrom = 2;
        Assert.Equal(0, await tier.PutAsync(100, 2, 3));
        Assert.Equal((1, 0), (await tier.GetAsync(100, 1), await tier.GetAsync(100, 2)));
        Assert.Equal((100L, 1L), (tier.BytesInUse, tier.Counts.Errors));
        Assert.Equal([100], _allocated.Values);
        _refuseFrom = int.MaxValue;
        Assert.Equal(2, await tier.PutAsync(100, 2, 3));
        Assert.Equal(3, await tier.GetAsync(100, 1, 2, 3));
    }

    [Fact]
    public async Task A_cancelled_store_leaves_nothing()
    {
        using KvHostTier tier = Counted(1000);
        using var cancelled = new CancellationTokenSource();
        await cancelled.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await tier.WriteAsync(Keys(1), Content(Keys(1), 100), cancelled.Token));
        Assert.Equal((0, 0L), (await tier.GetAsync(100, 1), tier.BytesInUse));
        Assert.Empty(_allocated);
        await tier.PutAsync(100, 1);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await tier.ReadAsync(Keys(1), new byte[100], cancelled.Token));
        Assert.Equal(1, await tier.GetAsync(100, 1));
    }

    [Fact]
    public async Task After_disposal_everything_is_a_miss()
    {
        KvHostTier tier = Counted(1000);
        await tier.PutAsync(100, 1);
        tier.Dispose();
        tier.Dispose();
        Assert.Empty(_allocated);
        Assert.Equal((0, 0, 2L, 0L), (await tier.GetAsync(100, 1), await tier.PutAsync(100, 2), tier.Counts.Errors, tier.BytesInUse));
    }

    private KvHostTier Counted(long limit) => new(limit, new HostMemory(
        bytes =>
        {
            nint memory = _allocated.Count >= _refuseFrom ? throw new InsufficientMemoryException("none left") : Marshal.AllocHGlobal(bytes);
            _allocated.Add(memory, bytes);
            return memory;
        },
        memory =>
        {
            Assert.True(_allocated.Remove(memory));
            Marshal.FreeHGlobal(memory);
        }));
}
