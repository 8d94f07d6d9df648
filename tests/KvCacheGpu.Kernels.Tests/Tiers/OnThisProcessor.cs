using System.Runtime.Intrinsics;
using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

/// <summary>The tier as users get it. CI runs these again with AVX-512, AVX2 and all vectors switched off.</summary>
public sealed class WidestVectors : ITierUnderTest
{
    public static IEnumerable<AttentionCase> Grid => AttentionGrid.Emulated;

    public static KernelTier Create(KernelShape shape, long arenaBytes) => new SimdTier(shape, arenaBytes);
}

public class OnThisProcessorAttentionTests : AttentionConformance<WidestVectors>;

public class OnThisProcessorPageTests : PageConformance<WidestVectors>;

public class OnThisProcessorLevelTests
{
    [Fact]
    public void The_widest_vectors_that_are_accelerated_are_taken()
    {
        var geometry = new KvGeometry(1, 1, 1, 8);
        var layout = new PageLayout(geometry, PageFormat.F32, PageFormat.F32);
        using var tier = new SimdTier(new KernelShape(geometry, layout, layout, 1, 1, 1), 1 << 16);
        string expected = Vector512.IsHardwareAccelerated ? "simd-512" : Vector256.IsHardwareAccelerated ? "simd-256" : "simd-scalar";
        Assert.Equal(expected, tier.Name);
    }
}
