namespace KvCacheGpu.Evaluation.Tests;

public sealed class ResultsFileTests
{
    [Fact]
    public void What_was_added_is_read_again()
    {
        using TempFolder folder = new();
        EvalCell cell = Cell("a") with { Accuracy = 1 / 3.0, Budget = .1, Labels = new Dictionary<string, double> { ["x"] = .5 }, Refused = "E001: \"no\"\nroom" };
        using (ResultsFile file = ResultsFile.Open(folder.File("r")))
        {
            file.Add(cell);
        }

        using ResultsFile again = ResultsFile.Open(folder.File("r"));
        EvalCell read = again.Find("a")!;
        Assert.Equal(cell.Labels, read.Labels);
        Assert.Equal(cell, read with { Labels = cell.Labels });
        Assert.Null(again.Find("b"));
    }

    [Fact]
    public void A_line_that_was_cut_off_is_forgotten_and_written_over()
    {
        using TempFolder folder = new();
        string path = folder.File("r");
        using (ResultsFile file = ResultsFile.Open(path))
        {
            file.Add(Cell("a"));
            file.Add(Cell("b"));
        }

        byte[] whole = File.ReadAllBytes(path);
        for (int cut = whole.Length / 2; cut < whole.Length; cut += 7)
        {
            File.WriteAllBytes(path, whole[..cut]);
            using (ResultsFile file = ResultsFile.Open(path))
            {
                Assert.Equal(cut == whole.Length ? 2 : 1, file.Count);
                file.Add(Cell("b"));
            }

            Assert.Equal(whole, File.ReadAllBytes(path));
        }
    }

    [Theory]
    [InlineData("not json\n")]
    [InlineData("null\n")]
    [InlineData("{\"id\":null}\n")]
    [InlineData("{}\n")]
    public void Anything_else_is_refused_with_its_line(string text)
    {
        using TempFolder folder = new();
        using (ResultsFile file = ResultsFile.Open(folder.File("r")))
        {
            file.Add(Cell("a"));
        }

        File.AppendAllText(folder.File("r"), text);
        Assert.Contains("line 2", Assert.Throws<InvalidDataException>(() => ResultsFile.Open(folder.File("r"))).Message, StringComparison.Ordinal);
    }

    private static EvalCell Cell(string id) => new() { Id = id, Task = "recall", Seed = 0, Format = "f16", Policy = "none" };
}
