using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>Threads, and the scratch that each of them has.</summary>
public class ThreadsTests
{
    private const int Tokens = 32;

    private static readonly KernelShape Shape = Shapes.Mixed(new KvGeometry(1, 4, 2, 64, pageTokens: 16), PageFormat.F16, PageFormat.T4, PageFormat.V4, 1, 8);

    [Fact]
    public void As_many_threads_are_taken_as_scratch_has_room_for()
    {
        long each = ScratchOf(threads: 2) - ScratchOf(threads: 1);
        Assert.True(each > 0, "each thread has scratch of its own");
        Assert.Equal(1, SimdTier.ThreadsWithin(Shape, Tokens, 0));
        Assert.Equal(1, SimdTier.ThreadsWithin(Shape, Tokens, (2 * each) - 1));
        Assert.Equal(Math.Min(2, Environment.ProcessorCount), SimdTier.ThreadsWithin(Shape, Tokens, 2 * each));
        Assert.Equal(Environment.ProcessorCount, SimdTier.ThreadsWithin(Shape, Tokens, long.MaxValue));
    }

    [Fact]
    public void Tiers_of_as_many_threads_share_a_pool()
    {
        Assert.Same(WorkerPool.Of(3), WorkerPool.Of(3));
        Assert.Same(WorkerPool.Shared, WorkerPool.Of(Environment.ProcessorCount));
        Assert.Equal((2, 3), (WorkerPool.Of(2).Workers, WorkerPool.Of(3).Workers));
    }

    private static long ScratchOf(int threads)
    {
        long scratch = 0;
        void Count(AllocationKind kind, long bytes) => scratch += kind == AllocationKind.Scratch ? bytes : 0;
        var tier = new SimdTier(Shape, new TableMap(Shape).Bytes, SimdLevel.Auto, threads, Count);
        KernelBatch batch = tier.CreateBatch(1, Tokens);
        long held = scratch;
        batch.Dispose();
        tier.Dispose();
        Assert.Equal(0, scratch);
        return held;
    }
}
