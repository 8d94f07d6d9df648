using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>A tier on which the conformance suites run. A new tier implements this interface, and has an empty subclass of each suite.</summary>
public interface ITierUnderTest
{
    /// <summary>The attention cases that the tier runs; all of them unless it is an emulator.</summary>
    static virtual IEnumerable<AttentionCase> Grid => AttentionGrid.All;

    /// <summary>The cases of tensor cores that the tier runs, where it has any.</summary>
    static virtual IEnumerable<CudaCase> CudaCases => CudaGrid.Pairs;

    /// <summary>Makes a tier.</summary>
    static abstract KernelTier Create(KernelShape shape, long arenaBytes);
}
