using TorchSharp;
using TorchSharpLlama;
using Xunit.Abstractions;

namespace KvCacheGpu.TorchSharp.Tests;

/// <summary>The sample: what its change costs in lines, and what it prints.</summary>
public class SampleTests(ITestOutputHelper output)
{
    private static readonly string Folder = Path.Combine(Root(), "samples", "TorchSharpLlama");

    [Fact]
    public void A_model_changes_its_cache_in_ten_lines()
    {
        (int added, int removed) = Changed(File.ReadAllLines(Path.Combine(Folder, "CatAttention.cs")), File.ReadAllLines(Path.Combine(Folder, "PagedAttention.cs")));
        Assert.InRange(added, 1, 10);
        Assert.InRange(removed, 1, 10);
    }

    [Fact]
    public void The_document_shows_the_lines_that_change()
    {
        string shown = File.ReadAllText(Path.Combine(Root(), "docs", "embedding-torch.md")).Split("```diff\n")[1].Split("```")[0];
        string[] old = File.ReadAllLines(Path.Combine(Folder, "CatAttention.cs")), now = File.ReadAllLines(Path.Combine(Folder, "PagedAttention.cs"));
        Assert.Equal(old.Except(now), Lines('-'));
        Assert.Equal(now.Except(old), Lines('+'));

        IEnumerable<string> Lines(char sign) => shown.Split('\n').Where(line => line.StartsWith(sign)).Select(line => line[1..]);
    }

    [TorchFact]
    public void A_step_of_several_sequences_runs()
    {
        using DisposeScope scope = torch.NewDisposeScope();
        using KvCache cache = TestTorch.ExactCache(new KvGeometry(2, 4, 2, 16));
        using KvSequence first = cache.CreateSequence(), second = cache.CreateSequence();
        torch.Tensor output = RaggedStep.Run(cache, first, second);
        Assert.Equal((3, 1), (first.Length, second.Length));
        Assert.Equal([4, 4, 16], output.shape);
        Assert.True(output.abs().sum().item<float>() > 1);
    }

    // Each format's own error: that of binary32 arithmetic, of 11 bits, of 8 bits and of 4 bits of each element.
    [TorchTheory]
    [InlineData(PageFormat.F32, PageFormat.F32, 1e-5, 32)]
    [InlineData(PageFormat.F16, PageFormat.F16, 5e-3, 32)]
    [InlineData(PageFormat.I8, PageFormat.I8, 5e-2, 28)]
    [InlineData(PageFormat.T4, PageFormat.V4, 5e-1, 16)]
    public void The_model_says_the_same_within_the_formats_error(PageFormat keys, PageFormat values, double most, int leastSame)
    {
        Program.Comparison result = Program.Compare(keys, values);
        Assert.InRange(result.Error, 1e-9, most);
        Assert.InRange(result.Same, leastSame, result.Tokens);
        output.WriteLine($"TORCH: {result.Tokens} cases");
    }

    [TorchFact]
    public void It_runs()
    {
        TextWriter console = Console.Out;
        using var printed = new StringWriter();
        Console.SetOut(printed);
        try
        {
            Program.Main();
        }
        finally
        {
            Console.SetOut(console);
        }

        Assert.Contains("f32 + f32: logits differ by", printed.ToString(), StringComparison.Ordinal);
        Assert.Contains("32 of 32 tokens are the same", printed.ToString(), StringComparison.Ordinal);
    }

    /// <summary>Lines that a diff of the two files adds and removes: those beside their longest common subsequence.</summary>
    internal static (int Added, int Removed) Changed(string[] old, string[] now)
    {
        var common = new int[old.Length + 1, now.Length + 1];
        for (int i = 0; i < old.Length; i++)
        {
            for (int j = 0; j < now.Length; j++)
            {
                common[i + 1, j + 1] = old[i] == now[j] ? common[i, j] + 1 : Math.Max(common[i, j + 1], common[i + 1, j]);
            }
        }

        return (now.Length - common[old.Length, now.Length], old.Length - common[old.Length, now.Length]);
    }

    private static string Root()
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(directory!.FullName, "KvCacheGpu.sln")))
        {
            directory = directory.Parent;
        }

        return directory.FullName;
    }
}
