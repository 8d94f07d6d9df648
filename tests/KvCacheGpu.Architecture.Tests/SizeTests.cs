using KvCacheGpu.Architecture.Tests.Sources;

namespace KvCacheGpu.Architecture.Tests;

/// <summary>How large a type may be over all of its files, and which types may have several parts.</summary>
public class SizeTests
{
    private const int MostLines = 500;

    // Families of overloads and generated code may have several parts; each says why.
    private static readonly Dictionary<string, string> InParts = new(StringComparer.Ordinal)
    {
        ["KvCacheGpu.Kernels: ISimd<,>"] = "one operation for each width of vector: those of attention, and those of encoding",
        ["KvCacheGpu.Kernels: Simd256"] = "the same two families in 256 bits",
        ["KvCacheGpu.Kernels: Simd512"] = "the same two families in 512 bits",
        ["KvCacheGpu.Kernels: SimdScalar"] = "the same two families without vectors",
    };

    // Types that were too large when the rule came.
    private static readonly string[] KnownLarge =
    [
        "KvCacheGpu: KvCache",
        "KvCacheGpu: KvCacheConfig",
        "KvCacheGpu: KvSequence",
        "KvCacheGpu: KvStep",
        "KvCacheGpu: PagePool",
        "KvCacheGpu: PageTable",
        "KvCacheGpu: UltraAdaptiveKvCacheEngine",
        "KvCacheGpu.Kernels: AttendKernel",
        "KvCacheGpu.TestKit: AttentionConformance<>",
        "KvCacheGpu.TestKit: PageConformance<>",
        "KvCacheGpu.Tests: RandomOperations",
    ];

    // Types that had several parts when the rule came.
    private static readonly string[] KnownInParts =
    [
        "KvCacheGpu: BlockIndex",
        "KvCacheGpu: EvictionPlan",
        "KvCacheGpu: KvCache",
        "KvCacheGpu: KvCacheConfig",
        "KvCacheGpu: KvSequence",
        "KvCacheGpu: KvStep",
        "KvCacheGpu: PagePool",
        "KvCacheGpu: PageTable",
        "KvCacheGpu: SnapshotStore",
        "KvCacheGpu: UltraAdaptiveKvCacheEngine",
        "KvCacheGpu.Benchmarks: SnapshotRates",
        "KvCacheGpu.Catalog: CacheCatalog",
        "KvCacheGpu.Import: PickleMachine",
        "KvCacheGpu.Kernels: AttendKernel",
        "KvCacheGpu.Kernels: PortableBatch",
        "KvCacheGpu.Kernels: SimdAttend<,,>",
        "KvCacheGpu.Llama: LlamaDecoder",
        "KvCacheGpu.TestKit: AttentionConformance<>",
        "KvCacheGpu.TestKit: Expect",
        "KvCacheGpu.TestKit: PageConformance<>",
        "KvCacheGpu.TestKit: ReferenceBatch",
        "KvCacheGpu.Tests: PrefixReuseTests",
        "KvCacheGpu.Tests: PublicCalls",
        "KvCacheGpu.Tests: RandomEngineOperations",
        "KvCacheGpu.Tests: RandomOperations",
    ];

    private static readonly TypeSize[] Types = [.. Repository.Projects.Select(ProjectSource.Read).SelectMany(TypeSize.Of)];

    [Fact]
    public void No_type_has_more_than_500_lines_over_all_its_files() =>
        Check(KnownLarge, TooLarge(Types));

    [Fact]
    public void Only_overload_families_and_generated_code_have_several_parts() =>
        Check([.. KnownInParts, .. InParts.Keys], Types.Where(type => type.Parts > 1));

    internal static IEnumerable<TypeSize> TooLarge(IEnumerable<TypeSize> types) => types.Where(type => type.Lines > MostLines);

    private static void Check(string[] known, IEnumerable<TypeSize> found)
    {
        Assert.InRange(Types.Length, 200, int.MaxValue);
        string differences = KnownList.Differences(known, found.Select(type => ($"{type.Project}: {type.Type}", type.ToString())));
        Assert.True(differences.Length == 0, differences);
    }
}
