using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests.Readme;

/// <summary>Numbers that the documents name are those of the code.</summary>
public class ReadmeTests
{
    [Fact]
    public void The_guide_to_formats_names_the_bytes_of_each()
    {
        var geometry = new KvGeometry(layers: 1, queryHeads: 1, kvHeads: 1, keyWidth: 128);
        string guide = File.ReadAllText(Path.Combine(Root(), "docs", "formats.md"));
        foreach (KvFormats formats in TestCaches.NaturalPairs)
        {
            double bytes = new PageLayout(geometry, formats.Key, formats.Value).Bytes / 64.0;
            string name = formats.Key == formats.Value ? formats.Key.Name() : $"{formats.Key.Name()} + {formats.Value.Name()}";
            Assert.Contains(FormattableString.Invariant($"| `{name}` | {bytes} | "), guide, StringComparison.Ordinal);
        }
    }

    internal static string Root()
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(directory!.FullName, "KvCacheGpu.sln")))
        {
            directory = directory.Parent;
        }

        return directory.FullName;
    }
}
