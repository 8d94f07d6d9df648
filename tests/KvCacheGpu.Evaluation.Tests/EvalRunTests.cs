using KvCacheGpu.Kernels;
using KvCacheGpu.Llama;

namespace KvCacheGpu.Evaluation.Tests;

public sealed class EvalRunTests(Demo demo) : IClassFixture<Demo>
{
    private static readonly EvalSetting Window = new("f16", "window", .9);

    [Fact]
    public void A_run_that_was_killed_goes_on_to_the_same_table()
    {
        using TempFolder folder = new();
        EvalPlan plan = Plan(["recall", "perplexity"], new EvalSetting("i8", "none", null), Window);
        EvalTable whole;
        using (ResultsFile memory = ResultsFile.InMemory())
        {
            whole = Run(plan, memory);
        }

        using (ResultsFile file = ResultsFile.Open(folder.File("r")))
        using (CancellationTokenSource stop = new())
        {
            int cells = 0;
            Reports killer = new(_ =>
            {
                if (++cells == 5)
                {
                    stop.Cancel();
                }
            });
            Assert.Throws<OperationCanceledException>(() => Runner(plan).Run(file, killer, stop.Token));
        }

        // The kill came while a line was written.
        File.AppendAllText(folder.File("r"), "{\"id\":\"abc");
        List<EvalSetting> measured = [];
        using ResultsFile rest = ResultsFile.Open(folder.File("r"));
        Assert.Equal(5, rest.Count);
        EvalTable resumed = Run(plan, rest, (setting, geometry, tokens, device, _) =>
        {
            measured.Add(setting);
            return EvalCaches.Config(setting, geometry, tokens, device);
        });
        Assert.Equal(WithoutTimes(whole), WithoutTimes(resumed));
        Assert.Equal(12, rest.Count);

        // Seven cells were missing, and the full cache is run again to compare the one that recall still missed.
        Assert.InRange(measured.Count, 7, 9);
        measured.Clear();
        Assert.Equal(WithoutTimes(whole), WithoutTimes(Run(plan, rest, (setting, geometry, tokens, device, _) => throw new InvalidOperationException("nothing is left to run"))));
    }

    [Fact]
    public void A_full_cache_that_does_not_recall_makes_the_run_void()
    {
        EvalVoidException e = Assert.Throws<EvalVoidException>(() => Run(Plan(["copy", "text"]), ResultsFile.InMemory(), Forgetful));
        Assert.Contains("full-cache recall of at least 98 %", e.Message, StringComparison.Ordinal);
        Assert.EndsWith("the run is void", e.Message, StringComparison.Ordinal);

        // A text asks for nothing.
        EvalTable table = Run(Plan(["perplexity", "text", "packed", "repeat"]), ResultsFile.InMemory(), Forgetful);
        Assert.Null(table.FullRecall);
        Assert.Equal(["perplexity", "text", "packed", "repeat"], table.Rows.Select(r => r.Task));

        static KvCacheOptions Forgetful(EvalSetting setting, KvGeometry geometry, int tokens, string device, KvFutureMass? future)
        {
            KvCacheOptions config = EvalCaches.Config(setting, geometry, tokens, device);
            config.Policy = new WindowPolicy(32);
            return config;
        }
    }

    [Fact]
    public void The_full_cache_predicts_a_text_as_the_model_does()
    {
        EvalRow row = Assert.Single(Run(Plan(["text"]) with { Seeds = 1 }, ResultsFile.InMemory()).Rows);
        int[] tokens = [.. Assert.Single(Demo.Task("text").Prompts(demo.Text, Demo.Tiny, 0)).Parts.SelectMany(p => p.Tokens)];
        double log = LogLikelihood(tokens) - LogLikelihood(tokens[..EvalScale.LeadTokens]);
        Assert.Equal((EvalSetting.Full, tokens.Length - EvalScale.LeadTokens), (row.Setting, row.Scored));
        Assert.Equal(-log / row.Scored, row.Nll, 1e-4);
    }

    [Fact]
    public void Fewer_bits_diverge_more_from_the_full_cache()
    {
        string[] formats = ["f16", "i8", "i8+v4", "t4", "t2"];
        EvalTable table = Run(Plan(["text", "packed", "repeat"], [.. formats.Select(f => new EvalSetting(f, "none", null))]), ResultsFile.InMemory());
        foreach (IGrouping<string, EvalRow> task in table.Rows.GroupBy(r => r.Task))
        {
            EvalRow[] rows = [.. task];
            Assert.Equal(["f32", .. formats], rows.Select(r => r.Setting.Format));
            Assert.Equal(new Interval(0, 0, 0), rows[0].Kl);
            Assert.All(rows.Zip(rows.Skip(1)), pair => Assert.True(pair.First.Kl.Mean < pair.Second.Kl.Mean, $"{pair}"));
            Assert.All(rows, row => Assert.InRange(row.Kl.Mean, row.Kl.Low, row.Kl.High));
            Assert.True(rows[^1].Kl.Low < rows[^1].Kl.High && rows[^1].Agreement < 1, $"{rows[^1]}");
        }
    }

    [Fact]
    public void A_budget_above_the_empty_cache_leaves_its_share_to_pages()
    {
        EvalSetting share = new("f16", "window", .6, AboveEmpty: true);
        KvGeometry geometry = demo.Model.Geometry(EvalScale.PageTokens);
        KvCacheOptions config = EvalCaches.Config(share, geometry, 320, "cpu"), whole = EvalCaches.Config(share with { AboveEmpty = false }, geometry, 320, "cpu");
        KvCacheOptions unlimited = whole.Copy();
        unlimited.MemoryBudgetBytes = null;
        long empty = KvCache.BytesFor(geometry, unlimited).CreatedBytes;
        Assert.InRange(empty, 1, long.MaxValue);
        Assert.Equal((long)(.6 * geometry.DenseF16Bytes(320)), whole.MemoryBudgetBytes);
        Assert.Equal(whole.MemoryBudgetBytes + empty, config.MemoryBudgetBytes);
        Assert.True(Assert.IsType<WindowPolicy>(config.Policy).WindowTokens > Assert.IsType<WindowPolicy>(whole.Policy).WindowTokens);

        EvalSetting all = share with { AboveEmpty = false };
        EvalRow[] rows = [.. Run(Plan(["recall"], share, all), ResultsFile.InMemory()).Rows.Skip(1)];
        Assert.Equal([share, all], rows.Select(r => r.Setting));
        Assert.True(rows[0].EvictedTokens > 0 && rows[0].EvictedTokens < rows[1].EvictedTokens, $"{rows[0]} {rows[1]}");
    }

    [Theory]
    [InlineData("t4", "t4")]
    [InlineData("t4+v4", "t4")]
    [InlineData("i8+i8", "i8")]
    [InlineData("i8+v4", "i8+v4")]
    [InlineData("t4+i8", "t4+i8")]
    [InlineData("q4_0+i8", "q4_0+i8")]
    [InlineData("t4+v3", null)]
    [InlineData("f32+f16", null)]
    [InlineData("v4", null)]
    [InlineData("v4+i8", null)]
    [InlineData("t4+", null)]
    [InlineData("+i8", null)]
    [InlineData("t4+i8+i8", null)]
    [InlineData("", null)]
    public void Formats_are_named_by_their_keys_or_as_pairs(string text, string? name) => Assert.Equal(name, EvalCaches.FormatNamed(text));

    [Theory]
    [InlineData("i8", "none", null)]
    [InlineData("f16", "window", .9)]
    public void A_cache_that_did_not_compress_makes_the_run_void(string format, string policy, double? budget)
    {
        EvalSetting setting = new(format, policy, budget);
        EvalVoidException e = Assert.Throws<EvalVoidException>(() => Run(Plan(["recall"], setting), ResultsFile.InMemory(), (_, geometry, tokens, device, _) =>
        {
            KvCacheOptions config = EvalCaches.Config(new EvalSetting("f16", "none", null), geometry, tokens, device);
            config.MemoryBudgetBytes = budget is null ? null : geometry.DenseF16Bytes(tokens) * 2;
            return config;
        }));
        Assert.Contains(setting.ToString(), e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_budget_that_no_cache_fits_is_refused_by_name_and_the_rest_goes_on()
    {
        EvalSetting least = new("f16", "window", .01);
        EvalTable table = Run(Plan(["recall"], least, new EvalSetting("i8", "none", null)), ResultsFile.InMemory());
        EvalRefusal refusal = Assert.Single(table.Refusals);
        Assert.Equal(("recall", least), (refusal.Task, refusal.Setting));
        Assert.StartsWith("E003: memory budget", refusal.Reason, StringComparison.Ordinal);
        Assert.Equal([EvalSetting.Full, new EvalSetting("i8", "none", null)], table.Rows.Select(r => r.Setting));
    }

    [Fact]
    public void A_task_that_the_model_does_not_do_is_refused_by_name()
    {
        EvalTable table = Run(Plan([], Window) with { Tasks = [new Impossible(), Demo.Task("perplexity")] }, ResultsFile.InMemory());
        Assert.Equal(["impossible"], table.RefusedTasks.Keys);
        Assert.Contains("0.0 %", table.RefusedTasks["impossible"], StringComparison.Ordinal);
        Assert.All(table.Rows, r => Assert.Equal("perplexity", r.Task));
    }

    [Fact]
    public void The_numbers_are_those_of_the_caches()
    {
        EvalTable table = Run(Plan(["recall", "needle"], Window), ResultsFile.InMemory());
        KvGeometry geometry = demo.Model.Geometry(EvalScale.PageTokens);
        foreach (EvalRow full in table.Rows.Where(r => r.Setting == EvalSetting.Full))
        {
            Assert.Equal((0.0, 0.0, 1.0, 0.0), (full.DeltaNll.Mean, full.Kl.Mean, full.Agreement, full.EvictedTokens));
            EvalPrompt[] prompts = [.. Demo.Task(full.Task).Prompts(demo.Text, Demo.Tiny, 0)];
            Assert.Equal(prompts.Sum(p => geometry.DenseF16Bytes(p.MostTokens)), full.DenseBytes);

            // Pages hold what stays: a probe is taken back.
            int pageBytes = new PageLayout(geometry, PageFormat.F32, PageFormat.F32).Bytes;
            Assert.Equal(prompts.Sum(p => (long)geometry.PagesFor(p.Parts[0].Tokens.Count)) * geometry.Layers * geometry.KvHeads * pageBytes, full.PageBytes);
            Assert.Equal(full.Scored, 2 * prompts.Sum(p => p.Scored));
        }

        EvalRow window = table.Rows.Single(r => r.Setting == Window && r.Task == "recall");
        Assert.InRange(window.Ratio, .2, .9);
        Assert.True(window.EvictedTokens > 0 && window.Accuracy.Mean < 1 && window.DeltaNll.Mean > 0 && window.Kl.Low > 0 && window.Agreement < 1);
        Assert.Equal(10, table.Rows[^1].Labels.Count);
    }

    [Fact]
    public void Csv_has_a_field_for_every_column()
    {
        EvalTable table = Run(Plan(["perplexity"], Window), ResultsFile.InMemory());
        string[] lines = EvalCsv.Write(table.Rows).TrimEnd('\n').Split('\n');
        int columns = EvalCsv.Header.Split(',').Length;
        Assert.Equal((EvalCsv.Header, 3), (lines[0], lines.Length));
        Assert.All(lines, line => Assert.Equal(columns, line.Split(',').Length));
        Assert.StartsWith("perplexity,f32,none,,0,0,2,32,", lines[1], StringComparison.Ordinal);
        Assert.StartsWith("perplexity,f16,window,0.9,0,0,2,32,", lines[2], StringComparison.Ordinal);
    }

    [Fact]
    public void Seeds_begin_where_they_are_told_to()
    {
        EvalPlan plan = Plan(["recall", "perplexity"], Window) with { FirstSeed = 7 };
        using ResultsFile results = ResultsFile.InMemory();
        EvalTable later = Run(plan, results);
        Assert.All(later.Rows, row => Assert.Equal((7, 2), (row.FirstSeed, row.Seeds)));
        Assert.All(
            plan.Tasks.SelectMany(task => new[] { 7, 8 }.SelectMany(seed => new[] { EvalSetting.Full, Window }.Select(setting => (task, seed, setting)))),
            cell => Assert.Equal(cell.seed, results.Find(demo.Identity.Of(cell.task, cell.seed, cell.setting))!.Seed));
        Assert.Equal(8, results.Count);
        Assert.NotEqual(later.Rows[^1].Nll, Run(plan with { FirstSeed = 0 }, results).Rows[^1].Nll);

        // The seed that both ranges share is not run again.
        Assert.Equal(16, results.Count);
        Run(plan with { FirstSeed = 8 }, results);
        Assert.Equal(20, results.Count);
    }

    [Fact]
    public void What_pages_become_is_part_of_what_a_result_is_of() => Assert.All([.. EvalCaches.Formats, "i8+v4", "t4+i8"], format =>
    {
        EvalSetting setting = new(format, "adaptive", .5);
        KvCacheOptions config = EvalCaches.Config(setting, demo.Model.Geometry(EvalScale.PageTokens), 960, "cpu");
        Assert.Contains($"{config.KeyFormat}/{config.ValueFormat}", EvalCaches.Meaning(setting), StringComparison.Ordinal);
        Assert.All(config.DemotionFormats, formats => Assert.Contains(formats.ToString(), EvalCaches.Meaning(setting), StringComparison.Ordinal));
    });

    [Fact]
    public void Identity_is_of_all_that_a_result_depends_on()
    {
        EvalTask task = Demo.Task("recall");
        string[] ids =
        [
            demo.Identity.Of(task, 0, Window),
            demo.Identity.Of(task, 1, Window),
            demo.Identity.Of(Demo.Task("needle"), 0, Window),
            demo.Identity.Of(task, 0, Window with { Budget = .8 }),
            demo.Identity.Of(task, 0, Window with { AboveEmpty = true }),
            demo.Identity.Of(task, 0, Window with { Format = "i8" }),
            demo.Identity.Of(task, 0, Window with { Format = "i8+v4" }),
            demo.Identity.Of(task, 0, Window with { Policy = "none" }),
            new EvalIdentity(demo.Model.Directory, "text", "cpu", EvalScale.Quick).Of(task, 0, Window),
            new EvalIdentity(demo.Model.Directory, "other", "cpu", Demo.Tiny).Of(task, 0, Window),
            new EvalIdentity(demo.Model.Directory, "text", "ilgpu-cpu", Demo.Tiny).Of(task, 0, Window),
            Bent().Of(task, 0, Window),
        ];
        Assert.Equal(ids.Length, ids.Distinct().Count());
        Assert.Equal(ids[0], new EvalIdentity(demo.Model.Directory, "text", "cpu", Demo.Tiny).Of(task, 0, Window));
    }

    [Fact]
    public void Without_a_policy_there_is_one_cache_per_format() => Assert.Equal(
        [new("f16", "none", null), new("f16", "window", 1), new("f16", "window", .5), new("i8", "none", null), new("i8", "window", 1), new("i8", "window", .5)],
        EvalSetting.Grid(["f16", "i8"], ["none", "window"], [1, .5]));

    private EvalIdentity Bent()
    {
        using TempFolder folder = new();
        foreach (string file in Directory.GetFiles(demo.Model.Directory))
        {
            File.Copy(file, folder.File(Path.GetFileName(file)));
        }

        File.AppendAllText(folder.File("config.json"), " ");
        return new EvalIdentity(folder.Path, "text", "cpu", Demo.Tiny);
    }

    private double LogLikelihood(int[] tokens)
    {
        using KvCache cache = new(demo.Model.Geometry(), new KvCacheOptions { Device = "cpu", MaxTokens = 512, MaxSequences = 1, KeyFormat = PageFormat.F32, ValueFormat = PageFormat.F32 });
        using KvSequence sequence = cache.CreateSequence();
        using LlamaDecoder decoder = new(demo.Model);
        return decoder.LogLikelihood(sequence, tokens);
    }

    private static EvalPlan Plan(string[] tasks, params EvalSetting[] settings) => new([.. tasks.Select(Demo.Task)], settings, 2, Demo.Tiny, "cpu");

    private EvalRun Runner(EvalPlan plan, EvalConfigure? configure = null) => new(demo.Model, demo.Text, demo.Identity, plan, configure);

    private EvalTable Run(EvalPlan plan, ResultsFile results, EvalConfigure? configure = null) => Runner(plan, configure).Run(results);

    private static string[] WithoutTimes(EvalTable table) =>
        [.. EvalCsv.Write(table.Rows).Split('\n').Select(line => string.Join(',', line.Split(',').SkipLast(2))), .. table.Refusals.Select(r => r.ToString())];

    private sealed class Reports(Action<EvalProgress> report) : IProgress<EvalProgress>
    {
        public void Report(EvalProgress value) => report(value);
    }

    /// <summary>Asks for what was never said.</summary>
    private sealed class Impossible : EvalTask
    {
        public override string Name => "impossible";

        public override string Summary => "what was never said";

        private protected override IReadOnlyList<EvalPrompt> Build(EvalText text, EvalScale scale, Random random)
        {
            (int Key, int Value) fact = text.Facts(random, 1)[0];
            return [new EvalPrompt([new EvalPart(EvalAct.Read, text.Document(random, 33, [])), Ask(text, fact)])];
        }
    }
}
