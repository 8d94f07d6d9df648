using System.Text.Json;
using KvCacheGpu.Kernels;
using KvCacheGpu.Llama;

namespace KvCacheGpu.Cli.Tests;

public sealed class PlanTests
{
    private const string FormatKeys =
        "key_format string, value_format string, page_bytes number, bytes_per_token number, context_page_bytes number, context_table_bytes number, "
        + "context_bytes number, ratio number, fits bool?, fitting_tokens number?";

    [Fact]
    public void Bytes_are_those_of_the_layouts_and_tables()
    {
        JsonElement plan = Tool.Json("plan", "--geometry", "32,8,128", "--context", "8200");
        Schema.Check(plan, "geometry object, context_tokens number, dense_f16_bytes number, budget_bytes number?, formats array, refused_formats array");
        Schema.Check(
            plan.GetProperty("geometry"), "layers number, query_heads number, kv_heads number, key_width number, value_width number, page_tokens number");

        KvGeometry g = new(32, 8, 8, 128);
        PageLayout f16 = new(g, PageFormat.F16, PageFormat.F16);
        Assert.Equal(g.DenseF16Bytes(8200), plan.Long("dense_f16_bytes"));
        Assert.Equal(16, plan.GetProperty("formats").GetArrayLength());
        foreach (JsonElement format in plan.GetProperty("formats").EnumerateArray())
        {
            Schema.Check(format, FormatKeys);
            PageFormat key = format.Format("key_format");
            PageFormat value = format.Format("value_format");
            PageLayout sealedPage = new(g, key, value);
            PageLayout open = new(g, key == PageFormat.I8 ? PageFormat.F16 : key, value == PageFormat.I8 ? PageFormat.F16 : value);
            Assert.Equal(sealedPage.Bytes, format.Long("page_bytes"));
            Assert.Equal(sealedPage.Bytes * 256 / 64.0, format.Double("bytes_per_token"));
            // 8,200 tokens: 128 full pages, of which the last lags behind, and 8 tokens in one more.
            Assert.Equal(256L * ((127L * sealedPage.Bytes) + (2L * open.Bytes)), format.Long("context_page_bytes"));
            Assert.Equal(new TableMap(new KernelShape(g, open, sealedPage, 0, 1, 129)).Bytes, format.Long("context_table_bytes"));
            Assert.Equal(format.Long("context_page_bytes") + format.Long("context_table_bytes"), format.Long("context_bytes"));
            Assert.Equal((double)format.Long("context_bytes") / g.DenseF16Bytes(8200), format.Double("ratio"), 12);
        }

        Assert.Equal(f16.Bytes * 4.0, plan.GetProperty("formats").EnumerateArray().First(f => f.Text("key_format") == "f16" && f.Text("value_format") == "f16").Double("bytes_per_token"));
    }

    [Theory]
    [InlineData("256MiB")]
    [InlineData("25%")]
    [InlineData("1000")]
    public void What_fits_is_the_most_that_fits(string text)
    {
        JsonElement plan = Tool.Json("plan", "--geometry", "4,2,64", "--context", "50000", "--page-tokens", "16", "--memory-budget", text);
        KvGeometry g = new(4, 2, 2, 64, pageTokens: 16);
        long budget = plan.Long("budget_bytes");
        Assert.True(MemoryBudget.TryParse(text, out MemoryBudget? expected));
        Assert.Equal(expected!.BytesFor(g, 50_000), budget);
        foreach (JsonElement format in plan.GetProperty("formats").EnumerateArray())
        {
            PageFormat key = format.Format("key_format");
            PageFormat value = format.Format("value_format");
            ContextPlan exact = new(g, key, value);
            long tokens = format.Long("fitting_tokens");
            Assert.True(tokens == 0 || exact.PeakBytes(tokens) <= budget);
            Assert.True(exact.PeakBytes(tokens + 1) > budget);
            Assert.Equal(tokens >= 50_000, format.GetProperty("fits").GetBoolean());
        }
    }

    [Fact]
    public void A_budget_of_exactly_the_bytes_fits()
    {
        ContextPlan plan = new(new KvGeometry(4, 4, 2, 64), PageFormat.I8, PageFormat.F16);
        long bytes = plan.PeakBytes(640);
        // Sealing the ninth page makes it smaller; until then it was open.
        Assert.Equal(plan.Bytes(639), bytes);
        Assert.True(plan.Bytes(640) < bytes);
        Assert.Equal(640, plan.TokensIn(bytes));
        Assert.Equal(576, plan.TokensIn(bytes - 1));
    }

    [Fact]
    public void Only_config_json_is_read_of_a_model()
    {
        string folder = Directory.CreateTempSubdirectory("kvcache-cli-").FullName;
        File.Copy(Path.Combine(DemoModel.Directory, "config.json"), Path.Combine(folder, "config.json"));
        JsonElement geometry = Tool.Json("plan", "--model", folder, "--context", "4096").GetProperty("geometry");
        Directory.Delete(folder, recursive: true);
        Assert.Equal("""{"layers":4,"query_heads":4,"kv_heads":2,"key_width":64,"value_width":64,"page_tokens":64}""", geometry.GetRawText());
    }

    [Fact]
    public void Formats_that_refuse_the_width_are_named()
    {
        JsonElement plan = Tool.Json("plan", "--geometry", "1,2,10", "--context", "5");
        Assert.Equal(9, plan.GetProperty("formats").GetArrayLength());
        Assert.Equal("""["i8"]""", plan.GetProperty("refused_formats").GetRawText());
    }

    [Fact]
    public void People_get_a_table()
    {
        Tool plan = Tool.Run("plan", "--geometry", "32,8,128", "--context", "8192", "--memory-budget", "768MiB");
        Assert.Equal((0, string.Empty), (plan.Exit, plan.Error));
        Assert.Contains("| i8   | i8     |  66,560 | ", plan.Output, StringComparison.Ordinal);
        Assert.Contains("dense F16 cache: 1 GiB", plan.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void A_budget_beyond_every_table_ends_at_what_tables_hold()
    {
        ContextPlan plan = new(new KvGeometry(80, 64, 8, 128), PageFormat.I8, PageFormat.I8);
        long most = plan.TokensIn(long.MaxValue);
        Assert.True(plan.Bytes(most) > 0);
        Assert.Throws<OverflowException>(() => plan.Bytes(most + 64));
    }
}
