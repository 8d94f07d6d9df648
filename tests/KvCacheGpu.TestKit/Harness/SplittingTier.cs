using ILGPU.Runtime;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>Tiers of accelerators that split rows early, so that small cases merge many segments.</summary>
public static class SplittingTier
{
    private const int SegmentTokens = 24;

    /// <summary>A tier of portable kernels alone; a group size of 0 lets the tier choose.</summary>
    public static PortableTier On(Accelerator accelerator, KernelShape shape, long arenaBytes, int groupSize = 0, AllocationObserver? observer = null) =>
        new(accelerator, shape, arenaBytes, groupSize, observer) { SegmentTokens = SegmentTokens };

    /// <summary>The tier that hosts get on an accelerator: on CUDA with tensor cores.</summary>
    public static PortableTier AsHosts(Accelerator accelerator, KernelShape shape, long arenaBytes)
    {
        PortableTier tier = CudaTier.Create(accelerator, shape, arenaBytes);
        tier.SegmentTokens = SegmentTokens;
        return tier;
    }
}
