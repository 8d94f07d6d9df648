using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

/// <summary>There is one answer to whether something fits, and taking agrees with it.</summary>
public class RoomTests
{
    [Theory]
    [InlineData(PageFormat.F32)]
    [InlineData(PageFormat.I8)]
    public void What_the_room_says_is_what_it_gives(PageFormat format)
    {
        KvCacheOptions options = TestCaches.Config(format, maxTokens: 256);
        options.MemoryBudgetBytes = KvCache.BytesFor(TestCaches.Tiny, options).MinimumBytes * 3 / 2;
        using KvCache cache = TestCaches.Reference(TestCaches.Tiny, options);
        Room room = cache.State.Room;
        var taken = new List<int>();
        using (cache.State.Pool.Gate.Enter())
        {
            while (room.WhyNot("a page", SlotCounts.Of(KernelShape.Open, 1)) is null)
            {
                taken.Add(room.Take("a page", KernelShape.Open));
                Assert.InRange(cache.AllocatedBytes, 1, cache.BudgetBytes);
            }

            Assert.NotEmpty(taken);
            long before = cache.AllocatedBytes;
            Span<int> slot = [0];
            Assert.False(room.TryTake(SlotCounts.Of(KernelShape.Open, 1), slot));
            KvOutOfMemoryException refused = Assert.Throws<KvOutOfMemoryException>(() => room.Take("a page", KernelShape.Open));
            Assert.True(refused.Needed > refused.Free);
            Assert.Equal((before, 0), (cache.AllocatedBytes, slot[0]));
            cache.State.Pool.Release([.. taken]);
        }

        Assert.Equal(default, cache.GetPageCounts());
    }
}
