using ILGPU.Runtime;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>Portable tiers that split rows early, so that small cases merge many segments.</summary>
public static class SplittingTier
{
    private const int SegmentTokens = 24;

    /// <summary>A tier on an accelerator; a group size of 0 lets the tier choose.</summary>
    public static PortableTier On(Accelerator accelerator, KernelShape shape, long arenaBytes, int groupSize = 0, AllocationObserver? observer = null) =>
        new(accelerator, shape, arenaBytes, CudaMoves.For(accelerator), groupSize, observer) { SegmentTokens = SegmentTokens };
}
