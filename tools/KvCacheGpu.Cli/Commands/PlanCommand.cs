using System.CommandLine;
using System.Globalization;
using KvCacheGpu.Llama;
using Spectre.Console;

namespace KvCacheGpu.Cli;

/// <summary><c>kvcache plan</c>: the bytes of a context in every format, before anything is allocated.</summary>
internal static class PlanCommand
{
    private const int DefaultPageTokens = 64;

    /// <summary>Makes the command.</summary>
    public static Command Create(Terminal terminal)
    {
        Option<string?> model = Choice.Text("--model", "DIR", "A model in Hugging Face layout; only its config.json is read.");
        Option<GeometryText?> geometry = Choice.Parsed<GeometryText?>(
            "--geometry", "L,H,D", "Layers, KV heads, head width.", GeometryText.Expected, GeometryText.TryParse);
        Option<int?> context = Choice.Number("--context", "Tokens of the sequence.", 1);
        Option<int?> pageTokens = Choice.Number("--page-tokens", $"Tokens in a page. Default: {DefaultPageTokens}.", 1);
        Option<MemoryBudget?> budget = Choice.Budget();
        Option<bool> json = Choice.Json();
        context.Required = true;
        Command command = new("plan", "What a context takes in every format, and what fits, before allocating.")
        {
            model, geometry, context, pageTokens, budget, json,
        };
        command.SetAction(parsed =>
        {
            KvGeometry shape = Shape(parsed.GetValue(model), parsed.GetValue(geometry), parsed.GetValue(pageTokens) ?? DefaultPageTokens);
            int tokens = parsed.GetValue(context)!.Value;
            PlanReport report;
            try
            {
                report = Plan(shape, tokens, parsed.GetValue(budget)?.BytesFor(shape, tokens));
            }
            catch (OverflowException)
            {
                throw new UsageException("--context", "tables of fewer than 2^31 words", $"{tokens} tokens in pages of {shape.PageTokens}");
            }

            if (parsed.GetValue(json))
            {
                terminal.WriteJson(report);
            }
            else
            {
                Print(terminal, report);
            }

            return CommandLine.Done;
        });
        return command;
    }

    private static KvGeometry Shape(string? model, GeometryText? geometry, int pageTokens)
    {
        if (model is null == (geometry is null))
        {
            throw new UsageException("plan", "one of --model DIR and --geometry L,H,D", model is null ? "neither" : "both");
        }

        try
        {
            return model is null
                ? new KvGeometry(geometry!.Layers, geometry.Heads, geometry.Heads, geometry.Width, pageTokens: pageTokens)
                : LlamaConfig.Load(Path.Combine(model, "config.json")).Geometry(pageTokens);
        }
        catch (ArgumentOutOfRangeException e)
        {
            throw new UsageException(
                model is null ? "--geometry, --page-tokens" : "--model, --page-tokens",
                $"head widths of {KvGeometry.MinWidth}..{KvGeometry.MaxWidth} and pages of 1..{KvGeometry.MaxPageTokens} tokens",
                $"{e.ActualValue}");
        }
    }

    private static PlanReport Plan(KvGeometry g, int tokens, long? budget)
    {
        long dense = g.DenseF16Bytes(tokens);
        KvFormats[] pairs = [.. from key in Enum.GetValues<PageFormat>()
                                from value in Enum.GetValues<PageFormat>()
                                where PageFormats.IsPair(key, value) && key.Takes(g.KeyWidth) && value.Takes(g.ValueWidth) && OpenTakes(key, value, g)
                                select new KvFormats(key, value)];
        return new PlanReport(
            new GeometryReport(g.Layers, g.QueryHeads, g.KvHeads, g.KeyWidth, g.ValueWidth, g.PageTokens),
            tokens,
            dense,
            budget,
            [.. pairs.Select(pair => PlanOf(new ContextPlan(g, pair.Key, pair.Value), tokens, dense, budget))],
            [.. Enum.GetValues<PageFormat>().Where(f => !Array.Exists(pairs, p => p.Key == f || p.Value == f)).Select(f => f.Name())]);
    }

    private static FormatPlanReport PlanOf(ContextPlan plan, int tokens, long dense, long? budget)
    {
        long bytes = plan.Bytes(tokens);
        return new FormatPlanReport(
            plan.Formats.Key.Name(),
            plan.Formats.Value.Name(),
            [.. plan.Layers.GroupBy(l => (l.KeyFormat, l.ValueFormat)).Select(l => new LayersReport(l.Key.KeyFormat.Name(), l.Key.ValueFormat.Name(), l.Count()))],
            plan.SealedPageBytes,
            plan.BytesPerToken,
            plan.ElementBytesPerToken,
            plan.ScaleBytesPerToken,
            plan.MeanBytesPerToken,
            plan.DeviationBytesPerToken,
            plan.PaddingBytesPerToken,
            (double)plan.TableBytes(tokens) / tokens,
            plan.PageBytes(tokens),
            plan.TableBytes(tokens),
            bytes,
            (double)bytes / dense,
            budget is null ? null : plan.PeakBytes(tokens) <= budget,
            budget is null ? null : plan.TokensIn(budget.Value));
    }

    // Pages are written in full precision first: F16 unless one of the formats is itself full precision.
    private static bool OpenTakes(PageFormat key, PageFormat value, KvGeometry g)
    {
        PageFormat open = key.IsFullPrecision() ? key : value.IsFullPrecision() ? value : PageFormat.F16;
        return open.Takes(g.KeyWidth) && open.Takes(g.ValueWidth);
    }

    private static void Print(Terminal terminal, PlanReport report)
    {
        GeometryReport g = report.Geometry;
        terminal.Output.WriteLine(
            $"{g.Layers} layers, {g.QueryHeads} query heads, {g.KvHeads} KV heads of width {g.KeyWidth}; {Readable.Count(report.ContextTokens)} tokens in pages of {g.PageTokens}");
        terminal.Output.WriteLine($"dense F16 cache: {Readable.Bytes(report.DenseF16Bytes)}");
        string[] columns = ["keys", "values", "#bytes/\ntoken", "#elements", "#scales", "#means", "#devia-\ntions", "#tables", "#bytes", "#of dense\nF16"];
        Table table = terminal.NewTable(report.BudgetBytes is null ? columns : [.. columns, "fits", "#tokens\nthat fit"]);
        if (report.BudgetBytes is { } budget)
        {
            terminal.Output.WriteLine($"budget: {Readable.Bytes(budget)}");
        }

        foreach (FormatPlanReport f in report.Formats)
        {
            List<string> cells =
            [
                f.KeyFormat, f.ValueFormat,
                .. new[] { f.BytesPerToken, f.ElementBytesPerToken, f.ScaleBytesPerToken, f.MeanBytesPerToken, f.DeviationBytesPerToken, f.TableBytesPerToken }
                    .Select(b => b.ToString("#,0.##", CultureInfo.InvariantCulture)),
                Readable.Bytes(f.ContextBytes), Readable.Percent(f.Ratio),
            ];
            if (f.Fits is { } fits)
            {
                cells.Add(fits ? "yes" : "no");
                cells.Add(Readable.Count(f.FittingTokens!.Value));
            }

            table.AddRow([.. cells]);
        }

        terminal.Write(table);
        if (report.RefusedFormats.Count > 0)
        {
            terminal.Output.WriteLine($"not for these widths: {string.Join(", ", report.RefusedFormats)}");
        }

        if (report.Formats.FirstOrDefault(f => f.Layers.Count > 1) is { } mixed)
        {
            int edges = mixed.Layers.Where(l => (l.KeyFormat, l.ValueFormat) != (mixed.KeyFormat, mixed.ValueFormat)).Sum(l => l.Layers);
            terminal.Output.WriteLine($"4 bits and fewer: {edges / 2} layers at each end stay in i8, and are counted so.");
        }

        terminal.Output.WriteLine("bytes/token: pages over all layers and heads: elements, scales, mean and deviation of each page's keys, padding; tables on top.");
        terminal.Output.WriteLine("bytes: pages, the last of them open, and page tables of one sequence; working memory of steps and bookkeeping come on top.");
    }
}
