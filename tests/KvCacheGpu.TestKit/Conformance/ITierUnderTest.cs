using KvCacheGpu.Kernels;

namespace KvCacheGpu.TestKit;

/// <summary>A tier that the conformance suites run on. A new one is this interface and two empty subclasses.</summary>
public interface ITierUnderTest
{
    /// <summary>The attention cases that the tier runs; all of them unless it is an emulator.</summary>
    static virtual IEnumerable<AttentionCase> Grid => AttentionGrid.All;

    /// <summary>Makes a tier.</summary>
    static abstract KernelTier Create(KernelShape shape, long arenaBytes);
}
