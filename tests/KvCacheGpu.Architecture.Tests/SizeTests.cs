using KvCacheGpu.Architecture.Tests.Sources;

namespace KvCacheGpu.Architecture.Tests;

/// <summary>Limits the lines of a type over all of its files, and names the types that may have several parts.</summary>
public class SizeTests
{
    private const int MostLines = 500;

    // Suites of tests that every tier or every model of an engine runs: one type, so that a tier is one subclass, and a file for each subject.
    private static readonly string[] KnownLarge =
    [
        "KvCacheGpu.TestKit: AttentionConformance<>",
        "KvCacheGpu.TestKit: PageConformance<>",
        "KvCacheGpu.Tests: RandomOperations",
    ];

    // Code of tests and measurements in a file for each subject. The product has none.
    private static readonly string[] KnownInParts =
    [
        "KvCacheGpu.Benchmarks: SnapshotRates",
        "KvCacheGpu.TestKit: AttentionConformance<>",
        "KvCacheGpu.TestKit: KeyScaleConformance<>",
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
    public void Only_suites_of_tests_and_generated_code_have_several_parts() =>
        Check(KnownInParts, Types.Where(type => type.Parts > 1));

    internal static IEnumerable<TypeSize> TooLarge(IEnumerable<TypeSize> types) => types.Where(type => type.Lines > MostLines);

    private static void Check(string[] known, IEnumerable<TypeSize> found)
    {
        Assert.InRange(Types.Length, 200, int.MaxValue);
        string differences = KnownList.Differences(known, found.Select(type => ($"{type.Project}: {type.Type}", type.ToString())));
        Assert.True(differences.Length == 0, differences);
    }
}
