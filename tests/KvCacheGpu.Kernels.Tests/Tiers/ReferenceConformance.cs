using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

public sealed class Reference : ITierUnderTest
{
    public static KernelTier Create(KernelShape shape, long arenaBytes) => new ReferenceTier(shape, arenaBytes);
}

public class ReferenceAttentionTests : AttentionConformance<Reference>;

public class ReferencePageTests : PageConformance<Reference>;

public class ReferenceTensorTests : TensorConformance<Reference>;

public class ReferenceKeyScaleTests : KeyScaleConformance<Reference>;
