using KvCacheGpu.TestKit;

namespace KvCacheGpu.Kernels.Tests;

public sealed class Simd512Vectors : ITierUnderTest
{
    public static KernelTier Create(KernelShape shape, long arenaBytes) => new SimdTier(shape, arenaBytes, SimdLevel.Vector512);
}

public sealed class Simd256Vectors : ITierUnderTest
{
    public static KernelTier Create(KernelShape shape, long arenaBytes) => new SimdTier(shape, arenaBytes, SimdLevel.Vector256);
}

public sealed class SimdOneByOne : ITierUnderTest
{
    public static KernelTier Create(KernelShape shape, long arenaBytes) => new SimdTier(shape, arenaBytes, SimdLevel.Scalar);
}

public sealed class Fast512Vectors : ITierUnderTest
{
    public static KernelTier Create(KernelShape shape, long arenaBytes) => new SimdTier(shape with { Precision = KvAttentionPrecision.Fast }, arenaBytes, SimdLevel.Vector512);
}

public sealed class Fast256Vectors : ITierUnderTest
{
    public static KernelTier Create(KernelShape shape, long arenaBytes) => new SimdTier(shape with { Precision = KvAttentionPrecision.Fast }, arenaBytes, SimdLevel.Vector256);
}

public class Simd512AttentionTests : AttentionConformance<Simd512Vectors>;

public class Fast512AttentionTests : AttentionConformance<Fast512Vectors>;

public class Fast256AttentionTests : AttentionConformance<Fast256Vectors>;

public class Simd512PageTests : PageConformance<Simd512Vectors>;

public class Simd256AttentionTests : AttentionConformance<Simd256Vectors>;

public class Simd256PageTests : PageConformance<Simd256Vectors>;

public class ScalarAttentionTests : AttentionConformance<SimdOneByOne>;

public class ScalarPageTests : PageConformance<SimdOneByOne>;

public class Simd512KeyScaleTests : KeyScaleConformance<Simd512Vectors>;

public class Simd256KeyScaleTests : KeyScaleConformance<Simd256Vectors>;

public class ScalarKeyScaleTests : KeyScaleConformance<SimdOneByOne>;

public class Simd512TensorTests : TensorConformance<Simd512Vectors>;

public class Simd256TensorTests : TensorConformance<Simd256Vectors>;

public class ScalarTensorTests : TensorConformance<SimdOneByOne>;
