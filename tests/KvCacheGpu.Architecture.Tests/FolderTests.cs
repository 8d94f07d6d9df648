using KvCacheGpu.Architecture.Tests.Sources;
using Microsoft.CodeAnalysis;

namespace KvCacheGpu.Architecture.Tests;

/// <summary>
/// Which way dependencies point between the folders of a project. The engine and the kernels have a table; everywhere else folders must not use each
/// other in a circle. There the project's own folder is left out: it holds the errors and options that all folders use, and the types that use them.
/// </summary>
public class FolderTests
{
    // Lowest first. A folder may use those above its line, none of its own line and none below it. "" is the engine's own folder: the public handles of one cache.
    // Tiers know bytes and hashes only, so that options can name them.
    private static readonly ArrowTable Engine = new(
        ["Devices", "Core", "Diagnostics"], ["Policies", "Tiers"], ["Options"], ["Memory"], ["Pages"], ["Prefix", "Offload"], ["State"], ["Backup"], ["Eviction"], ["Sequences"], ["Snapshots"], ["Steps"], ["Instruments"], [""], ["Group"]);

    // The kernels' own folder holds what the tiers have in common: their base class and the types of its calls. The CUDA tier is the portable one with attention of its own.
    private static readonly ArrowTable Kernels = new(["Layout"], [""], ["Portable", "Simd"], ["Cuda"]);

    [Fact]
    public void The_engines_folders_use_each_other_in_one_direction() =>
        Check(Engine, "src/KvCacheGpu/KvCacheGpu.csproj");

    [Fact]
    public void The_kernels_folders_use_each_other_in_one_direction() =>
        Check(Kernels, "kernels/KvCacheGpu.Kernels/KvCacheGpu.Kernels.csproj");

    [Fact]
    public void No_folders_use_each_other_in_a_circle()
    {
        var found = new List<(string, string)>();
        foreach (string file in Repository.Projects.Where(file => !Repository.Named(file).StartsWith("tests/", StringComparison.Ordinal)))
        {
            if (Repository.Named(file) is "src/KvCacheGpu/KvCacheGpu.csproj" or "kernels/KvCacheGpu.Kernels/KvCacheGpu.Kernels.csproj")
            {
                continue; // The table says more.
            }

            ProjectSource project = ProjectSource.Read(file);
            IReadOnlyList<FolderArrow> arrows = FolderArrow.Of(project);
            foreach (string[] cycle in FolderCycles.Of(arrows))
            {
                string name = $"{project.Name}: {string.Join(", ", cycle)}";
                IEnumerable<FolderArrow> inside = arrows.Where(arrow => cycle.Contains(arrow.From) && cycle.Contains(arrow.To));
                found.Add((name, $"{name}{string.Concat(inside.Select(arrow => $"{Environment.NewLine}    {arrow}"))}"));
            }
        }

        string differences = KnownList.Differences([], found);
        Assert.True(differences.Length == 0, differences);
    }

    private static void Check(ArrowTable table, string file)
    {
        ProjectSource project = ProjectSource.Read(Path.Combine(Repository.Root, file));
        // A name that the compiler cannot bind would be an arrow that is not seen. What source generators add is missing, and only that (CS8795).
        Assert.Empty(project.Compilation.GetDiagnostics().Where(found => found.Severity == DiagnosticSeverity.Error && found.Id != "CS8795"));
        IReadOnlyList<FolderArrow> arrows = FolderArrow.Of(project);
        Assert.NotEmpty(arrows);
        string differences = KnownList.Differences([], table.Wrong(arrows).Select(arrow => (arrow.Name, arrow.ToString())));
        Assert.True(differences.Length == 0, differences);
    }
}
