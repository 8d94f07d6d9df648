using System.Buffers.Binary;
using System.Text.Json;
using KvCacheGpu.Evaluation;

namespace KvCacheGpu.Cli.Tests;

public sealed class EvalTests
{
    private static readonly string[] Small = ["eval", "--quick", "--seeds", "1", "--tasks", "recall,needle,perplexity", "--formats", "f16,i8"];

    [Fact]
    public void Json_names_everything_and_files_hold_it()
    {
        using Folder folder = new();
        JsonElement report = Tool.Json([.. Small, "--out", folder.Path]);
        Schema.Check(
            report,
            "model string, model_fingerprint string, device string, scale string, page_tokens number, step_tokens number, first_seed number, seeds number, full_recall number?, "
            + "seconds number, rows array, refused_caches array, refused_tasks array, files array");
        Assert.Equal(("demo-model", "quick", 1.0), (report.Text("model"), report.Text("scale"), report.Double("full_recall")));
        Assert.InRange(report.Double("seconds"), 0, 60);
        JsonElement[] rows = [.. report.GetProperty("rows").EnumerateArray()];
        Assert.Equal(15, rows.Length);
        foreach (JsonElement row in rows)
        {
            Schema.Check(
                row,
                "task string, format string, policy string, budget number?, above_empty bool, scored number, accuracy object, delta_nll object, perplexity number, kl object, agreement number, "
                + "allocated_bytes number, page_bytes number, dense_f16_bytes number, ratio number, evicted_tokens number, read_tokens_per_second number, "
                + "write_tokens_per_second number?, labels array");
            Assert.All(new[] { "accuracy", "delta_nll", "kl" }, name => Schema.Check(row.GetProperty(name), "mean number, low number, high number"));
            Assert.Equal(row.Text("task") == "perplexity", row.GetProperty("write_tokens_per_second").ValueKind == JsonValueKind.Number);
            Assert.True(row.Text("policy") == "none" || row.Double("ratio") <= row.Double("budget"));
            Assert.True(row.Text("policy") == "none" || row.Double("evicted_tokens") > 0);
        }

        Assert.All(rows.Where(r => r.Text("task") == "needle"), r => Schema.Check(r.GetProperty("labels")[0], "label string, accuracy number"));
        string[] files = [.. report.GetProperty("files").EnumerateArray().Select(f => f.GetString()!)];
        Assert.Equal(["results.jsonl", "eval.csv", "recall.png", "needle.png", "perplexity.png"], files.Select(Path.GetFileName));
        Assert.Equal(files.Order(), Directory.GetFiles(folder.Path).Order());
        Assert.Equal(1 + rows.Length, File.ReadAllLines(files[1]).Length);
        foreach (string png in files[2..])
        {
            byte[] bytes = File.ReadAllBytes(png);
            Assert.Equal("PNG"u8, bytes.AsSpan(1, 3));
            Assert.Equal((1000, 620), (BinaryPrimitives.ReadInt32BigEndian(bytes.AsSpan(16)), BinaryPrimitives.ReadInt32BigEndian(bytes.AsSpan(20))));
        }

        // Done once it is not done again, times and all; but only on demand.
        JsonElement again = Tool.Json([.. Small, "--out", folder.Path, "--resume"]);
        Assert.Equal(report.GetProperty("rows").GetRawText(), again.GetProperty("rows").GetRawText());
        Assert.Contains("--resume", Tool.Refused(2, "E003", [.. Small, "--out", folder.Path]), StringComparison.Ordinal);
        File.WriteAllText(files[0], "damaged\n");
        Assert.Contains("line 1", Tool.Refused(2, "E004", [.. Small, "--json", "--out", folder.Path, "--resume"]), StringComparison.Ordinal);
    }

    // A folder where a file is to be written: not even root may.
    [Fact]
    public void A_result_that_may_not_be_written_is_E005_and_exit_1()
    {
        using Folder folder = new();
        Directory.CreateDirectory(Path.Combine(folder.Path, "eval.csv.new"));
        string line = Tool.Refused(1, "E005", "eval", "--quick", "--seeds", "1", "--tasks", "instruction", "--formats", "f16", "--policies", "none", "--json", "--out", folder.Path);
        Assert.Contains("eval.csv.new", line, StringComparison.Ordinal);
    }

    [Fact]
    public void Synthetic_needs_no_model()
    {
        JsonElement report = Tool.Json(
            "eval", "--synthetic", "--seeds", "1", "--model", "/nowhere", "--formats", "t4", "--policies", "none,window,oracle", "--budgets", ".35,.01", "--first-seed", "2", "--families", "drifting");
        Schema.Check(report, "device string, tokens number, written number, first_seed number, seeds number, rows array");
        JsonElement[] rows = [.. report.GetProperty("rows").EnumerateArray()];
        Assert.Equal((2, 5), (report.Double("first_seed"), rows.Length));
        Assert.All(rows, row => Schema.Check(
            row,
            "family string, format string, policy string, budget number?, above_empty bool, output_error number, mass_recall number, ratio number, evicted_tokens number, refused string?"));
        Assert.All(rows, row => Assert.Equal("drifting", row.Text("family")));
        Assert.InRange(rows[0].Double("output_error"), .01, .2);
        Assert.True(rows[1].Double("ratio") <= .35 && rows[1].Double("mass_recall") < rows[0].Double("mass_recall"));
        Assert.Contains("E003", rows[2].Text("refused"), StringComparison.Ordinal);
        Assert.Equal("oracle", rows[3].Text("policy"));
        Assert.True(rows[3].Double("mass_recall") > rows[1].Double("mass_recall"));
    }

    [Fact]
    public void The_oracle_and_the_first_seed_are_told_and_written()
    {
        using Folder folder = new();
        string[] args = ["eval", "--quick", "--seeds", "1", "--tasks", "recall", "--formats", "f16", "--policies", "oracle,window", "--budgets", ".4"];
        JsonElement report = Tool.Json([.. args, "--first-seed", "3", "--out", folder.Path]);
        Assert.Equal((3, 1), (report.Double("first_seed"), report.Double("seeds")));
        JsonElement[] rows = [.. report.GetProperty("rows").EnumerateArray()];
        Assert.Equal(["none", "oracle", "window"], rows.Select(r => r.Text("policy")));
        Assert.True(rows[1].GetProperty("accuracy").Double("mean") > rows[2].GetProperty("accuracy").Double("mean"));
        string[] cells = File.ReadAllLines(Path.Combine(folder.Path, "results.jsonl"));
        Assert.All(cells, cell => Assert.Contains("\"seed\":3,", cell, StringComparison.Ordinal));
        Assert.StartsWith("recall,f32,none,,0,3,1,", File.ReadAllLines(Path.Combine(folder.Path, "eval.csv"))[1], StringComparison.Ordinal);

        // Other seeds are other cells of the same folder.
        Assert.Equal(0, Tool.Json([.. args, "--out", folder.Path, "--resume"]).Double("first_seed"));
        Assert.Equal(2 * cells.Length, File.ReadAllLines(Path.Combine(folder.Path, "results.jsonl")).Length);
    }

    [Fact]
    public void People_get_a_table_and_how_it_was_measured()
    {
        Tool tool = Tool.Run("eval", "--quick", "--seeds", "1", "--tasks", "recall,instruction", "--formats", "i8", "--budgets", ".5,.05");
        Assert.Equal((0, string.Empty), (tool.Exit, tool.Error));
        Assert.Contains("recall: 4 trials ...", tool.Output, StringComparison.Ordinal);
        foreach (string cache in new[] { "f32 none", "i8 none", "i8 window 50 %" })
        {
            Assert.Single(tool.Output.Split('\n'), l => l.StartsWith("| recall", StringComparison.Ordinal) && l.Contains($"| {cache} ", StringComparison.Ordinal));
        }

        Assert.Contains("recall, i8 window 5 %: refused: E003: memory budget", tool.Output, StringComparison.Ordinal);
        Assert.Contains("whose recall is 100.0 %", tool.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void A_model_that_does_not_recall_makes_the_run_void()
    {
        using BentModel bent = new(config => config["rope_theta"] = 100);
        using Folder folder = new();
        string line = Tool.Refused(1, "E009", [.. Small, "--json", "--model", bent.Path, "--out", folder.Path]);
        Assert.Contains("full-cache recall of at least 98 %", line, StringComparison.Ordinal);
        Assert.EndsWith("the run is void", line, StringComparison.Ordinal);
        Assert.Equal("results.jsonl", Path.GetFileName(Assert.Single(Directory.GetFiles(folder.Path))));
    }

    [Fact]
    public void A_model_that_cannot_be_asked_makes_the_run_void()
    {
        using BentModel mute = new(_ => { }, withTokenizer: false);
        Assert.Contains("tokenizer", Tool.Refused(1, "E009", "eval", "--quick", "--json", "--model", mute.Path), StringComparison.Ordinal);
        using BentModel brief = new(config => config["max_position_embeddings"] = 512);
        Assert.Contains("got 512", Tool.Refused(1, "E009", "eval", "--quick", "--json", "--model", brief.Path), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--formats", "f16,q5")]
    [InlineData("--formats", "")]
    [InlineData("--formats", "t4+v3")]
    [InlineData("--policies", "psychic")]
    [InlineData("--policies", "window,")]
    [InlineData("--budgets", "0")]
    [InlineData("--budgets", "1.5")]
    [InlineData("--budgets", "half")]
    [InlineData("--seeds", "0")]
    [InlineData("--first-seed", "-1")]
    [InlineData("--first-seed", "2147483647", "--seeds", "2")]
    [InlineData("--tasks", "arithmetic")]
    [InlineData("--synthetic", "--families", "gaussian")]
    [InlineData("--device", "tpu")]
    [InlineData("--out", "")]
    [InlineData("--resume")]
    [InlineData("--model", "")]
    [InlineData("stray")]
    public void What_is_wrong_is_one_line_with_E003_and_exit_2(params string[] args) => Tool.Refused(2, "E003", ["eval", "--json", .. args]);

    [Theory]
    [InlineData("--model")]
    [InlineData("--text")]
    public void What_is_not_there_is_E002(string option) => Tool.Refused(2, "E002", "eval", "--json", option, "no-such-path");

    [Fact]
    public void Texts_need_no_recall_and_come_from_the_file_that_is_named()
    {
        string[] args = ["eval", "--quick", "--seeds", "1", "--tasks", "text,packed,repeat", "--formats", "t4+i8,i8+v4", "--policies", "none,window", "--budgets-above-empty"];
        using BentModel bent = new(config => config["rope_theta"] = 100);
        JsonElement report = Tool.Json([.. args, "--model", bent.Path]);
        Assert.Equal(JsonValueKind.Null, report.GetProperty("full_recall").ValueKind);
        JsonElement[] rows = [.. report.GetProperty("rows").EnumerateArray()];
        Assert.Equal(15, rows.Length);
        Assert.All(rows, r => Assert.Equal(r.Text("policy") == "window", r.GetProperty("above_empty").GetBoolean()));
        Assert.Contains("t4+i8", rows.Select(r => r.Text("format")));

        // The same model and another text: its own, which lies beside it, or one that is named.
        string own = Path.Combine(bent.Path, "document.txt"), other = Path.Combine(bent.Path, "other.txt");
        File.WriteAllText(other, string.Concat(Enumerable.Repeat("And the light shineth in darkness; and the darkness comprehended it not. ", 200)));
        JsonElement named = Tool.Json([.. args, "--model", bent.Path, "--text", other]);
        File.Move(other, own, overwrite: true);
        JsonElement beside = Tool.Json([.. args, "--model", bent.Path]);
        Assert.NotEqual(rows[0].Double("perplexity"), Perplexity(named));
        Assert.Equal(Perplexity(named), Perplexity(beside));

        static double Perplexity(JsonElement report) => report.GetProperty("rows")[0].Double("perplexity");
    }

    [Fact]
    public void A_task_that_cannot_be_asked_is_refused_by_name_and_the_others_run()
    {
        using BentModel bent = new(_ => { });
        string merges = Path.Combine(bent.Path, "merges.txt"), vocabulary = Path.Combine(bent.Path, "vocab.json");
        File.WriteAllLines(merges, File.ReadAllLines(merges).Take(101));
        Dictionary<string, int> tokens = JsonSerializer.Deserialize<Dictionary<string, int>>(File.ReadAllText(vocabulary))!;
        File.WriteAllText(vocabulary, JsonSerializer.Serialize(tokens.Where(t => t.Value < 2 + 256 + 100).ToDictionary()));
        File.WriteAllText(Path.Combine(bent.Path, "tokenizer_config.json"), """{"tokenizer_class":"GPT2Tokenizer"}""");
        string[] args = ["eval", "--quick", "--seeds", "1", "--formats", "t4", "--policies", "none", "--model", bent.Path];
        JsonElement report = Tool.Json([.. args, "--tasks", "recall,needle,text"]);
        Assert.Equal(["recall", "needle"], report.GetProperty("refused_tasks").EnumerateArray().Select(t => t.Text("task")));
        Assert.All(report.GetProperty("rows").EnumerateArray(), r => Assert.Equal("text", r.Text("task")));
        Assert.Contains("128 words", Tool.Refused(1, "E009", [.. args, "--json", "--tasks", "recall"]), StringComparison.Ordinal);
    }

    [Fact]
    public void Help_names_what_there_is()
    {
        Tool help = Tool.Run("eval", "--help");
        Assert.Equal((0, string.Empty), (help.Exit, help.Error));
        Assert.All(EvalTask.All, task => Assert.Contains(task.Name, help.Output, StringComparison.Ordinal));
        Assert.All(EvalCaches.Policies, policy => Assert.Contains(policy, help.Output, StringComparison.Ordinal));
    }

    private sealed class Folder : IDisposable
    {
        public string Path { get; } = Directory.CreateTempSubdirectory("kvcache-eval-").FullName;

        public void Dispose() => Directory.Delete(Path, recursive: true);
    }
}
