using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests.Readme;

/// <summary>The README shows exactly the code that runs here.</summary>
public class ReadmeTests
{
    [Theory]
    [InlineData("quick-start")]
    [InlineData("sharing")]
    [InlineData("budget")]
    [InlineData("pins")]
    [InlineData("prefix")]
    [InlineData("formats")]
    [InlineData("demotion")]
    [InlineData("engine")]
    public void The_readme_shows_the_code_that_is_compiled_here(string name)
    {
        string[] source = File.ReadAllLines(Path.Combine(Root(), "tests", "KvCacheGpu.Tests", "Readme", "Snippets.cs"));
        var code = new List<string>();
        bool inside = false;
        foreach (string line in source.Select(l => l.Trim()))
        {
            if (line == $"// <{name}>" || line == $"// </{name}>")
            {
                inside = line[3..] == $"<{name}>";
            }
            else if (inside)
            {
                code.Add(line);
            }
        }

        string[] readme = [.. File.ReadAllLines(Path.Combine(Root(), "README.md")).Select(l => l.Trim())];
        Assert.NotEmpty(code);
        Assert.Contains(string.Join('\n', code), string.Join('\n', readme), StringComparison.Ordinal);
    }

    [Fact]
    public void The_snippets_do_what_they_say()
    {
        int[] ids = [1, 2, 3, 4, 5];
        var model = new Snippets.Model(new float[5 * 128], new float[5 * 128], new float[5 * 256], new float[5 * 256]);
        new Random(1).NextBytes(System.Runtime.InteropServices.MemoryMarshal.AsBytes(ids.AsSpan()));
        Array.Fill(model.Values, 0.25f);
        Assert.Equal(5, Snippets.QuickStart(model, ids));
        Assert.All(model.Output, x => Assert.Equal(0.25f, x, 1e-3f));
        Assert.Equal(25, Snippets.Budget().MemoryBudgetPercent);

        using var cache = new KvCache(new KvGeometry(1, 1, 1, 8), new KvCacheOptions { Device = "cpu" });
        using KvSequence sequence = cache.CreateSequence();
        using (KvStep step = sequence.Begin(ids))
        {
            step.Append(0, new float[40], new float[40]);
            step.Commit();
        }

        Assert.Equal(3, Snippets.ForkAndRollBack(sequence));
        Assert.Equal(0, Snippets.Prefix(cache.Geometry, ids));
        var deep = new KvGeometry(layers: 8, queryHeads: 1, kvHeads: 1, keyWidth: 128);
        Assert.True(Snippets.Formats(deep, read =>
        {
            read.FeedMany(1, 128, chunk: 128);
            Snippets.Pinned(read);
        }));
        Assert.Equal((148 * 64, 520 * 64), (new PageLayout(deep, PageFormat.T4, PageFormat.V4).Bytes, new PageLayout(deep, PageFormat.F16, PageFormat.F16).Bytes));
    }

    [Fact]
    public async Task The_engine_snippet_attends_and_saves()
    {
        string path = Directory.CreateTempSubdirectory("kv-readme").FullName;
        try
        {
            float[] output = new float[512];
            float[] token = [.. Enumerable.Repeat(0.25f, 512)];
            await Snippets.Engine(path, token, token, token, output);
            Assert.All(output, x => Assert.Equal(0.25f, x, 1e-4f));
            Assert.Single(await new SnapshotStore(path).ListAsync());
        }
        finally
        {
            Directory.Delete(path, recursive: true);
        }
    }

    [Fact]
    public void The_readme_names_the_bytes_of_every_format()
    {
        var geometry = new KvGeometry(layers: 1, queryHeads: 1, kvHeads: 1, keyWidth: 128);
        string readme = File.ReadAllText(Path.Combine(Root(), "README.md"));
        foreach (KvFormats formats in TestCaches.NaturalPairs)
        {
            double bytes = new PageLayout(geometry, formats.Key, formats.Value).Bytes / 64.0;
            string name = formats.Key == formats.Value ? formats.Key.Name() : $"{formats.Key.Name()} + {formats.Value.Name()}";
            Assert.Contains(FormattableString.Invariant($"| `{name}` | {bytes} | "), readme, StringComparison.Ordinal);
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
