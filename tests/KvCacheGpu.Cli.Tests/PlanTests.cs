using System.Text.Json;
using KvCacheGpu.Evaluation;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.Cli.Tests;

public sealed class PlanTests
{
    private const string FormatKeys =
        "key_format string, value_format string, layers array, page_bytes number, bytes_per_token number, element_bytes_per_token number, "
        + "scale_bytes_per_token number, mean_bytes_per_token number, deviation_bytes_per_token number, padding_bytes_per_token number, "
        + "table_bytes_per_token number, context_page_bytes number, context_table_bytes number, "
        + "context_bytes number, ratio number, context_bookkeeping_bytes number, context_host_table_bytes number, sequences_page_bytes number, "
        + "sequences_table_bytes number, sequences_bookkeeping_bytes number, empty_cache_bytes number?, cache_bytes number?, cache_ratio number?, "
        + "fits bool?, fitting_tokens number?";

    private static readonly string[] Parts = ["element", "scale", "mean", "deviation"];

    [Fact]
    public void Bytes_are_those_of_the_layouts_and_tables()
    {
        JsonElement plan = Tool.Json("plan", "--geometry", "32,8,128", "--context", "8200");
        Schema.Check(
            plan,
            "geometry object, context_tokens number, sequences number, dense_f16_bytes number, sequences_dense_f16_bytes number, budget_bytes number?, formats array, "
            + "refused_formats array");
        Schema.Check(
            plan.GetProperty("geometry"), "layers number, query_heads number, kv_heads number, key_width number, value_width number, page_tokens number");

        KvGeometry g = new(32, 8, 8, 128);
        PageLayout f16 = new(g, PageFormat.F16, PageFormat.F16);
        Assert.Equal(g.DenseF16Bytes(8200), plan.Long("dense_f16_bytes"));
        Assert.Equal(28, plan.GetProperty("formats").GetArrayLength());
        foreach (JsonElement format in plan.GetProperty("formats").EnumerateArray())
        {
            Schema.Check(format, FormatKeys);
            KvFormats pair = new(format.Format("key_format"), format.Format("value_format"));
            PageLayout sealedPage = new(g, pair.Key, pair.Value);
            PageLayout edge = new(g, AtEdge(pair.Key), AtEdge(pair.Value));
            PageLayout open = new(g, OpenOf(pair), OpenOf(pair), pair == new KvFormats(OpenOf(pair), OpenOf(pair)));
            Assert.Equal(sealedPage.Bytes, format.Long("page_bytes"));

            // 32 layers of 8 heads, of which 2 at each end are edges.
            long block = (28L * 8 * sealedPage.Bytes) + (4L * 8 * edge.Bytes);
            Assert.Equal(block / 64.0, format.Double("bytes_per_token"));
            Assert.Equal(
                format.Double("bytes_per_token"),
                Parts.Sum(part => format.Double(part + "_bytes_per_token")) + format.Double("padding_bytes_per_token"));
            Assert.InRange(format.Double("padding_bytes_per_token"), 0, 256);
            Assert.Equal(256 * 128 * 2 / 64, format.Double("mean_bytes_per_token"));

            // 8,200 tokens: 128 full pages, of which the last has 8 tokens behind it and not the 16 that seal it, and 8 tokens in one more.
            Assert.Equal((127L * block) + (256L * 2 * open.Bytes), format.Long("context_page_bytes"));
            TableMap map = new(new KernelShape(g, [open, sealedPage, edge], 0, 1, 129) { HasStatistics = false });
            Assert.Equal(map.LeavesFor(129) * map.LeafBytes, format.Long("context_table_bytes"));
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
            int tokens = (int)format.Long("fitting_tokens");
            Assert.True(tokens == 0 || exact.PeakBytes(tokens) <= budget);
            Assert.True(exact.PeakBytes(tokens + 1) > budget);
            Assert.Equal(tokens >= 50_000, format.GetProperty("fits").GetBoolean());
        }
    }

    [Fact]
    public void A_budget_of_exactly_the_bytes_fits()
    {
        ContextPlan plan = new(new KvGeometry(4, 4, 2, 64), PageFormat.I8, PageFormat.F16);
        // Page 9 is sealed by token 656, 16 tokens behind its end: until the step ends it is there twice.
        long bytes = plan.PeakBytes(656);
        Assert.Equal(plan.Bytes(655) + (plan.PageBytes(656) - plan.PageBytes(655) + (8L * plan.OpenPageBytes)), bytes);
        Assert.Equal(719, plan.TokensIn(bytes));
        Assert.Equal(655, plan.TokensIn(bytes - 1));
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
        Assert.Equal(3, plan.GetProperty("formats").GetArrayLength());
        Assert.Equal("""["i8","t4","t3","t2","v4","v3","v2","fp8","q8_0","q4_0"]""", plan.GetProperty("refused_formats").GetRawText());
    }

    [Fact]
    public void People_get_a_table()
    {
        Tool plan = Tool.Run("plan", "--geometry", "32,8,128", "--context", "8192", "--memory-budget", "768MiB");
        Assert.Equal((0, string.Empty), (plan.Exit, plan.Error));
        Assert.Contains("| i8   | i8     |  68,608 | ", plan.Output, StringComparison.Ordinal);
        Assert.Contains("dense F16 cache: 1 GiB", plan.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void A_budget_beyond_every_cache_ends_at_what_a_sequence_may_have()
    {
        ContextPlan plan = new(new KvGeometry(80, 64, 8, 128), PageFormat.I8, PageFormat.I8);
        Assert.Equal(TableMap.MaxPageIndex, plan.TokensIn(long.MaxValue));
        Assert.Null(plan.EmptyCacheBytes);
        Tool more = Tool.Run("plan", "--geometry", "80,8,128", "--context", "16777216");
        Assert.Equal((2, string.Empty), (more.Exit, more.Output));
        Assert.Contains("--context: expected at most 16777215 tokens", more.Error, StringComparison.Ordinal);
        Tool wide = Tool.Run("plan", "--geometry", "80,8,128", "--context", "16777215", "--sequences", "2000000");
        Assert.Equal(2, wide.Exit);
        Assert.Contains("--sequences: expected as many", wide.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Sequences_take_as_much_as_one_of_them_each_and_the_empty_cache_once()
    {
        JsonElement one = Tool.Json("plan", "--geometry", "4,8,128", "--context", "512", "--memory-budget", "1GiB");
        JsonElement many = Tool.Json("plan", "--geometry", "4,8,128", "--context", "512", "--sequences", "100", "--memory-budget", "1GiB");
        Assert.Equal(100 * one.Long("dense_f16_bytes"), many.Long("sequences_dense_f16_bytes"));
        foreach ((JsonElement a, JsonElement b) in one.GetProperty("formats").EnumerateArray().Zip(many.GetProperty("formats").EnumerateArray()))
        {
            Assert.Equal(100 * a.Long("context_page_bytes"), b.Long("sequences_page_bytes"));
            Assert.Equal(100 * b.Long("context_table_bytes"), b.Long("sequences_table_bytes"));
            Assert.Equal(100 * b.Long("context_bookkeeping_bytes"), b.Long("sequences_bookkeeping_bytes"));
            Assert.True(b.Long("context_host_table_bytes") > b.Long("context_table_bytes"));
            Assert.Equal(
                b.Long("empty_cache_bytes") + b.Long("sequences_page_bytes") + b.Long("sequences_table_bytes") + b.Long("sequences_bookkeeping_bytes"), b.Long("cache_bytes"));
            Assert.Equal((double)b.Long("cache_bytes") / many.Long("sequences_dense_f16_bytes"), b.Double("cache_ratio"), 12);
            Assert.Equal(a.Long("fitting_tokens") >= 512, a.GetProperty("fits").GetBoolean());
            Assert.Equal(b.Long("fitting_tokens") >= 512, b.GetProperty("fits").GetBoolean());
            Assert.InRange(b.Long("fitting_tokens"), 1, a.Long("fitting_tokens") / 90);
        }
    }

    [Fact]
    public void Layers_at_the_edges_are_counted_in_what_they_are_held_in()
    {
        JsonElement Planned(string geometry, string key) => Tool.Json("plan", "--geometry", geometry, "--context", "4096")
            .GetProperty("formats").EnumerateArray().First(f => f.Text("key_format") == key && f.Text("value_format") != "i8");

        Assert.Equal(
            """[{"key_format":"i8","value_format":"i8","layers":4},{"key_format":"t4","value_format":"v4","layers":28}]""",
            Planned("32,8,128", "t4").GetProperty("layers").GetRawText());
        Assert.Equal("""[{"key_format":"t4","value_format":"v4","layers":7}]""", Planned("7,8,128", "t4").GetProperty("layers").GetRawText());
        Assert.Equal("""[{"key_format":"f16","value_format":"f16","layers":32}]""", Planned("32,8,128", "f16").GetProperty("layers").GetRawText());
        Assert.Contains("2 layers at each end stay in i8", Tool.Run("plan", "--geometry", "32,8,128", "--context", "4096").Output, StringComparison.Ordinal);

        // 148 bytes a token and head: 2 * 64 of codes, 12 of scales, 4 of mean, 4 of deviation.
        Assert.Equal(148 * 7 * 8, Planned("7,8,128", "t4").Double("bytes_per_token"));
    }

    private static PageFormat AtEdge(PageFormat format) => format.BitsPerElement() <= 4 ? PageFormat.I8 : format;

    private static PageFormat OpenOf(KvFormats pair) =>
        pair.Key.IsFullPrecision() ? pair.Key : pair.Value.IsFullPrecision() ? pair.Value : PageFormat.F16;
}
