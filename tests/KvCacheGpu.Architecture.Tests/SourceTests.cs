using System.Text.RegularExpressions;
using System.Xml.Linq;
using KvCacheGpu.Architecture.Tests.Sources;

namespace KvCacheGpu.Architecture.Tests;

/// <summary>What the source promises of itself: small files, honest names, nothing unfinished.</summary>
public partial class SourceTests
{
    private static readonly string[] Files = Repository.Files;

    [Fact]
    public void No_file_has_more_than_400_lines_and_the_median_is_below_120()
    {
        int[] lines = [.. Files.Select(file => File.ReadLines(file).Count()).Order()];
        Assert.InRange(lines.Length, 100, int.MaxValue);
        Assert.InRange(lines[^1], 1, 400);
        Assert.InRange(lines[lines.Length / 2], 1, 119);
    }

    [Fact]
    public void No_type_is_named_for_nothing() =>
        Assert.All(Files, file => Assert.DoesNotMatch(EmptyName(), File.ReadAllText(file)));

    [Fact]
    public void Nothing_is_left_unfinished() =>
        Assert.All(Files.Where(f => Path.GetFileName(f) != "SourceTests.cs"), file => Assert.DoesNotMatch(Unfinished(), File.ReadAllText(file)));

    [Fact]
    public void Every_project_is_in_the_solution()
    {
        string solution = File.ReadAllText(Path.Combine(Repository.Root, "KvCacheGpu.sln"));
        foreach (string project in Repository.In(".", "*.csproj"))
        {
            Assert.Contains(Path.GetFileName(project), solution, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Samples_use_libraries_alone_and_only_tests_use_samples()
    {
        string[] samples = [.. Repository.In("samples", "*.csproj")];
        Assert.NotEmpty(samples);
        Assert.All(samples, sample => Assert.All(References(sample), used => Assert.StartsWith("src/", used, StringComparison.Ordinal)));
        Assert.All(
            Repository.Projects.Where(project => !Repository.Named(project).StartsWith("tests/", StringComparison.Ordinal)),
            project => Assert.DoesNotContain(References(project), used => used.StartsWith("samples/", StringComparison.Ordinal)));
    }

    private static IEnumerable<string> References(string project) => XDocument.Load(project).Descendants("ProjectReference")
        .Select(item => Repository.Named(Path.GetFullPath(Path.Combine(Path.GetDirectoryName(project)!, item.Attribute("Include")!.Value))));

    [GeneratedRegex(@"\b(class|struct|record|interface)\s+(?!KvCacheConfigManager\b)\w*(Manager|Helper|Utils?|Service)\b")]
    private static partial Regex EmptyName();

    [GeneratedRegex(@"NotImplementedException|\bTODO\b|\bFIXME\b|\bHACK\b|Skip\s*=\s*""")]
    private static partial Regex Unfinished();
}
