using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Makes the tier that a cache works on.</summary>
internal delegate KernelTier TierFactory(KernelShape shape, long arenaBytes, AllocationObserver? observer);
