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

    /// <summary>The same, but of tensor cores only those kernels are compiled that are launched: a case needs few of a tier's.</summary>
    public static PortableTier OnDemand(Accelerator accelerator, KernelShape shape, long arenaBytes)
    {
        FormsOnDemand? forms = CudaTier.Forms(accelerator, shape.Precision) is { } all ? new FormsOnDemand(all) : null;
        return new PortableTier(accelerator, shape, arenaBytes, 0, null, forms, CudaMoves.For(accelerator)) { SegmentTokens = SegmentTokens };
    }
}
