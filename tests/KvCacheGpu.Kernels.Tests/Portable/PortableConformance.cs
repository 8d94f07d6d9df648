namespace KvCacheGpu.Kernels.Tests;

public sealed class PortableGroup1 : ITierUnderTest
{
    public static IEnumerable<AttentionCase> Grid => AttentionGrid.Emulated;

    public static KernelTier Create(KernelShape shape, long arenaBytes) => Emulated.Tier(shape, arenaBytes, 1);
}

public sealed class PortableGroup2 : ITierUnderTest
{
    public static IEnumerable<AttentionCase> Grid => AttentionGrid.Few.Concat(AttentionGrid.All.Where(c => c.Index % 9 == 4 && c.Cost < 1_500_000)).DistinctBy(c => c.Index);

    public static KernelTier Create(KernelShape shape, long arenaBytes) => Emulated.Tier(shape, arenaBytes, 2);
}

public sealed class PortableGroup16 : ITierUnderTest
{
    public static IEnumerable<AttentionCase> Grid => AttentionGrid.Few.Take(3);

    public static KernelTier Create(KernelShape shape, long arenaBytes) => Emulated.Tier(shape, arenaBytes, 16);
}

public sealed class PortableGroup32 : ITierUnderTest
{
    public static IEnumerable<AttentionCase> Grid => AttentionGrid.Few.Skip(3).Take(2);

    public static KernelTier Create(KernelShape shape, long arenaBytes) => Emulated.Tier(shape, arenaBytes, 32);
}

public class PortableAttentionGroup1Tests : AttentionConformance<PortableGroup1>;

public class PortableAttentionGroup2Tests : AttentionConformance<PortableGroup2>;

public class PortableAttentionGroup16Tests : AttentionConformance<PortableGroup16>;

public class PortableAttentionGroup32Tests : AttentionConformance<PortableGroup32>;
