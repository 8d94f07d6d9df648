using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

public sealed class PortableGroup1 : ITierUnderTest
{
    public static KernelTier Create(KernelShape shape, long arenaBytes) => Emulated.Tier(shape, arenaBytes, 1);
}

public sealed class PortableGroup2 : ITierUnderTest
{
    public static IEnumerable<AttentionCase> Grid => AttentionGrid.Emulated;

    public static KernelTier Create(KernelShape shape, long arenaBytes) => Emulated.Tier(shape, arenaBytes, 2);
}

public class PortableAttentionGroup1Tests : AttentionConformance<PortableGroup1>;

public class PortablePageGroup1Tests : PageConformance<PortableGroup1>;

public class PortableAttentionGroup2Tests : AttentionConformance<PortableGroup2>;

public class PortablePageGroup2Tests : PageConformance<PortableGroup2>;

public class PortableKeyScaleGroup1Tests : KeyScaleConformance<PortableGroup1>;

public class PortableKeyScaleGroup2Tests : KeyScaleConformance<PortableGroup2>;

public class PortableEngineGroup1Tests : EngineConformance<PortableGroup1>;

public class PortableTensorGroup1Tests : TensorConformance<PortableGroup1>;

public class PortableTensorGroup2Tests : TensorConformance<PortableGroup2>;
