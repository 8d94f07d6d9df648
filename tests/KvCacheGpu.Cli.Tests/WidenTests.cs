using System.Text.Json;
using KvCacheGpu.Evaluation;

namespace KvCacheGpu.Cli.Tests;

public sealed class WidenTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("kvcache-widen-").FullName;

    private string Out => Path.Combine(_folder, "wide");

    [Fact]
    public void A_wider_model_says_the_same()
    {
        JsonElement report = Tool.Json("widen", DemoModel.Directory, Out, "--head-width", "128", "--outliers", "20", "--seed", "4");
        Schema.Check(report, "model string, source_head_width number, head_width number, outliers number, seed number, bytes number");
        Assert.Equal((Out, 64, 128), (report.Text("model"), report.Double("source_head_width"), report.Double("head_width")));
        Assert.Equal((20, 4), (report.Double("outliers"), report.Double("seed")));
        string[] run = ["run", "--prompt", "In the beginning God created", "--max-new-tokens", "24", "--key-format", "f32", "--value-format", "f32"];
        Assert.Equal(Tool.Json(run).Ints("tokens"), Tool.Json([.. run, "--model", Out]).Ints("tokens"));
        Assert.Equal(64L * 4 * 2 * 256 * 2, Tool.Json("plan", "--model", Out, "--context", "64").Long("dense_f16_bytes"));
        Assert.Contains("with files", Tool.Refused(2, "E003", "widen", DemoModel.Directory, Out, "--json"), StringComparison.Ordinal);
    }

    [Fact]
    public void People_are_told_what_changed()
    {
        Tool tool = Tool.Run("widen", DemoModel.Directory, Out, "--outliers", "5");
        Assert.Equal((0, string.Empty), (tool.Exit, tool.Error));
        Assert.Contains("heads of width 64 for 64, keys of two pairs a head times 5; the same function", tool.Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--head-width", "96")]
    [InlineData("--head-width", "32")]
    [InlineData("--head-width", "1024")]
    [InlineData("--head-width", "0")]
    [InlineData("--outliers", "0.5")]
    [InlineData("--outliers", "many")]
    [InlineData("--seed", "-1")]
    [InlineData("stray")]
    public void What_is_wrong_is_one_line_with_E003_and_exit_2(params string[] args)
    {
        Tool.Refused(2, "E003", ["widen", DemoModel.Directory, Out, .. args]);
        Assert.Empty(Directory.GetFileSystemEntries(_folder));
    }

    [Fact]
    public void What_is_not_there_is_E002() => Tool.Refused(2, "E002", "widen", Path.Combine(_folder, "none"), Out, "--head-width", "128");

    public void Dispose() => Directory.Delete(_folder, recursive: true);
}
