using System.CommandLine;
using System.Diagnostics;
using KvCacheGpu.Evaluation;
using KvCacheGpu.Llama;

namespace KvCacheGpu.Cli;

/// <summary><c>kvcache eval</c>: measures the quality that formats, policies and budgets cost, against the bytes that they really take.</summary>
internal static class EvalCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Terminal terminal)
    {
        Option<string?> model = Choice.Text("--model", "DIR", "A Llama model in Hugging Face layout. Default: the bundled demo model.");
        Option<string?> text = Choice.Text("--text", "FILE", "UTF-8 text of which prompts are made. Default: the document.txt beside the model, or else the bundled one.");
        Option<string?> formats = Choice.Text("--formats", "F,..", $"Formats of sealed pages: {string.Join(", ", EvalCaches.Formats)}, or pairs with i8: i8+v4, t4+i8. Default: f16,i8.");
        Option<string?> policies = Choice.Text("--policies", "P,..", $"What is dropped: {string.Join(", ", EvalCaches.Policies)}. Default: none,window. {EvalCaches.Oracle} knows what will be asked: the bound of all that only drop. {EvalCaches.OnHost}: what is let go lies in host memory, and attention reads all of it; {EvalCaches.OnHost}2: two pages a token, of each layer and KV head.");
        Option<string?> budgets = Choice.Text("--budgets", "B,..", "Shares of the dense F16 bytes. Default: 1,.75,.5,.25,.1.");
        Option<bool> aboveEmpty = new("--budgets-above-empty") { Description = "Budgets count the bytes beyond those of an empty cache, which tables and working memory take." };
        Option<int?> seeds = Choice.Number("--seeds", $"Prompts of each task. Default: {EvalChoices.DefaultSeeds}.", 1);
        Option<int?> firstSeed = Choice.Number("--first-seed", "Seed of each task's first prompt; the others follow it. Default: 0.", 0);
        Option<string?> tasks = Choice.Text("--tasks", "T,..", $"Tasks: {string.Join(", ", EvalTask.All.Select(t => t.Name))}. Default: all.");
        Option<string?> device = Choice.Text("--device", "auto|cuda[:i]|opencl[:i]|cpu|ilgpu-cpu", "Where caches live. Default: auto.");
        Option<string?> folder = Choice.Text("--out", "DIR", "Where results, table and curves are written. Default: nowhere.");
        Option<bool> resume = new("--resume") { Description = "Go on with the results in --out." };
        Option<bool> quick = new("--quick") { Description = "Small prompts, few seeds and budgets: whether everything works, in seconds." };
        Option<bool> synthetic = new("--synthetic") { Description = "Without a model, in seconds: output error and recall of attention over made-up keys." };
        Option<string?> families = Choice.Text("--families", "F,..", $"Attention with --synthetic: {string.Join(", ", Enum.GetValues<SyntheticFamily>().Select(SyntheticReport.Name))}. Default: mixed.");
        Option<bool> json = Choice.Json();
        Command command = new("eval", "Measure what formats, policies and budgets cost in quality.")
        {
            model, text, formats, policies, budgets, aboveEmpty, seeds, firstSeed, tasks, device, folder, resume, quick, synthetic, families, json,
        };
        command.SetAction(parsed =>
        {
            EvalChoices choices = new(
                parsed.GetValue(tasks),
                parsed.GetValue(formats),
                parsed.GetValue(policies),
                parsed.GetValue(budgets),
                parsed.GetValue(aboveEmpty),
                parsed.GetValue(seeds),
                parsed.GetValue(firstSeed),
                parsed.GetValue(quick));
            EvalPlan plan = choices.Plan(KvDevice.Resolve(parsed.GetValue(device) ?? "auto").Id);
            if (parsed.GetValue(synthetic))
            {
                Write(terminal, SyntheticReport.Of(plan, EvalChoices.Families(parsed.GetValue(families))), parsed.GetValue(json));
                return CommandLine.Done;
            }

            EvalFiles? files = parsed.GetValue(folder) is { } directory ? new EvalFiles(RequireText("--out", directory)) : null;
            if (parsed.GetValue(resume) && files is null)
            {
                throw new UsageException("--resume", "--out with the folder to go on in", "none");
            }

            try
            {
                EvalReport report = terminal.WithProgress(
                    parsed.GetValue(json), stages => Run(stages, plan, (parsed.GetValue(model), parsed.GetValue(text)), files, parsed.GetValue(resume)));
                Write(terminal, report, parsed.GetValue(json));
                return CommandLine.Done;
            }
            catch (EvalVoidException e)
            {
                terminal.Error.WriteLine(e.Message);
                return CommandLine.Failed;
            }
        });
        return command;
    }

    private static EvalReport Run(IStages stages, EvalPlan plan, (string? Model, string? Text) source, EvalFiles? files, bool resume)
    {
        long start = Stopwatch.GetTimestamp();
        using LlamaModel model = source.Model is null ? DemoModel.Load() : LlamaModel.Load(RequireText("--model", source.Model));
        if (model.Config.MaxPositions < plan.Scale.MostTokens)
        {
            throw new EvalVoidException($"expected a model with a context of at least {plan.Scale.MostTokens} tokens, got {model.Config.MaxPositions}");
        }

        string held = ReadText(model, source.Text);
        EvalText text = Read(model, held);
        EvalIdentity identity = new(model.Directory, held, plan.Device, plan.Scale);
        using ResultsFile results = files?.OpenResults(resume) ?? ResultsFile.InMemory();
        EvalTable table = new EvalRun(model, text, identity, plan).Run(results, new Bars(stages));
        IReadOnlyList<string> written = files?.Write(table) ?? [];
        return EvalReport.Of(table, plan, model.Name, identity.Fingerprint, Stopwatch.GetElapsedTime(start).TotalSeconds, written);
    }

    private static string ReadText(LlamaModel model, string? file)
    {
        string own = Path.Combine(model.Directory, DemoModel.DocumentName);
        return file is not null ? TextFile.Read("--text", file)
            : File.Exists(own) ? TextFile.Read("--text", own)
            : DemoModel.ReadDocument();
    }

    private static EvalText Read(LlamaModel model, string held)
    {
        LlamaTokenizer tokenizer = model.Tokenizer
            ?? throw new EvalVoidException($"expected a model with a tokenizer, got {model.TokenizerRefusal?.Message ?? "one without"}");
        try
        {
            return EvalText.Create(tokenizer, held);
        }
        catch (ArgumentException e)
        {
            throw new UsageException("--text", "text in the model's vocabulary", e.Message);
        }
    }

    private static void Write(Terminal terminal, EvalReport report, bool json)
    {
        if (json)
        {
            terminal.WriteJson(report);
        }
        else
        {
            EvalView.Print(terminal, report);
        }
    }

    private static void Write(Terminal terminal, SyntheticReport report, bool json)
    {
        if (json)
        {
            terminal.WriteJson(report);
        }
        else
        {
            report.Print(terminal);
        }
    }

    private static string RequireText(string option, string text) =>
        text.Length > 0 ? text : throw new UsageException(option, "a directory", "an empty text");

    /// <summary>Shows a stage for each task.</summary>
    private sealed class Bars(IStages stages) : IProgress<EvalProgress>
    {
        private readonly Dictionary<string, IProgress<int>> _bars = [];

        public void Report(EvalProgress value)
        {
            if (!_bars.TryGetValue(value.Task, out IProgress<int>? bar))
            {
                bar = _bars[value.Task] = stages.Begin($"{value.Task}: {value.Total} trials", value.Total);
            }

            bar.Report(value.Done);
        }
    }
}
