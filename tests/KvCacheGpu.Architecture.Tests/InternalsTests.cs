using System.Xml.Linq;
using KvCacheGpu.Architecture.Tests.Sources;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp.Syntax;

namespace KvCacheGpu.Architecture.Tests;

/// <summary>Who sees the internals of a project: tests, and the engine those of the kernels.</summary>
public class InternalsTests
{
    // Each with its reason, as "project -> who sees it".
    private static readonly Dictionary<string, string> Exceptions = new(StringComparer.Ordinal)
    {
        ["KvCacheGpu.Kernels -> KvCacheGpu"] = "the engine runs the kernels",
        ["KvCacheGpu.Kernels -> ILGPU"] = "ILGPU compiles what is internal into an assembly of its own (Context.RuntimeAssemblyName)",
        ["KvCacheGpu -> KvCacheGpu.Benchmarks"] = "measures single parts of the engine",
        ["KvCacheGpu -> KvCacheGpu.GpuCheck"] = "runs the suites of the tests on a machine without .NET",
        ["KvCacheGpu -> KvCacheGpu.Measuring"] = "measures kernels on an accelerator that tiers share",
        ["KvCacheGpu.Measuring -> KvCacheGpu.Benchmarks"] = "measures single kernels",
        ["KvCacheGpu.Measuring -> KvCacheGpu.GpuCheck"] = "measures the devices that it checks",
        ["KvCacheGpu.TestKit -> KvCacheGpu.GpuCheck"] = "runs the suites of the tests on a machine without .NET",
    };

    [Fact]
    public void Internals_are_shown_to_tests_and_those_of_kernels_to_the_engine()
    {
        string[] tests = [.. Repository.In("tests", "*.csproj").Select(file => Path.GetFileNameWithoutExtension(file))];
        string[] shown = [.. Repository.Projects.SelectMany(Shown).Where(arrow => !tests.Contains(arrow.To)).Select(arrow => $"{arrow.From} -> {arrow.To}")];
        string differences = KnownList.Differences([.. Exceptions.Keys], shown.Select(arrow => (arrow, arrow)));
        Assert.True(differences.Length == 0, differences);
    }

    // A project says so in its project file or by an attribute; the one attribute that names no project names ILGPU's assembly.
    private static IEnumerable<(string From, string To)> Shown(string project)
    {
        ProjectSource source = ProjectSource.Read(project);
        IEnumerable<string> items = XDocument.Load(project).Descendants("InternalsVisibleTo").Select(item => item.Attribute("Include")!.Value);
        IEnumerable<string> attributes = source.Files.SelectMany(file => file.GetRoot().ChildNodes().OfType<AttributeListSyntax>()).SelectMany(list => list.Attributes)
            .Where(attribute => attribute.Name.ToString().Contains("InternalsVisibleTo", StringComparison.Ordinal))
            .Select(attribute => attribute.ArgumentList!.Arguments[0].Expression)
            .Select(to => to is LiteralExpressionSyntax text ? text.Token.ValueText : to.ToString() == "Context.RuntimeAssemblyName" ? "ILGPU" : to.ToString());
        return items.Concat(attributes).Select(to => (source.Name, to));
    }
}
