using System.CommandLine;
using System.Globalization;
using KvCacheGpu.Kernels;
using KvCacheGpu.Llama;
using Spectre.Console;

namespace KvCacheGpu.Cli;

/// <summary><c>kvcache plan</c>: what a context takes in every format, before anything is allocated.</summary>
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
        PageFormat[] taken = [.. Enum.GetValues<PageFormat>().Where(f => f.Takes(g.KeyWidth) && f.Takes(g.ValueWidth) && OpenTakes(f, g))];
        List<FormatPlanReport> formats = [];
        foreach (ContextPlan plan in taken.SelectMany(k => taken.Select(v => new ContextPlan(g, k, v))))
        {
            long bytes = plan.Bytes(tokens);
            formats.Add(new FormatPlanReport(
                plan.KeyFormat.Name(),
                plan.ValueFormat.Name(),
                plan.SealedPageBytes,
                plan.BytesPerToken,
                plan.PageBytes(tokens),
                plan.TableBytes(tokens),
                bytes,
                (double)bytes / dense,
                budget is null ? null : plan.PeakBytes(tokens) <= budget,
                budget is null ? null : plan.TokensIn(budget.Value)));
        }

        return new PlanReport(
            new GeometryReport(g.Layers, g.QueryHeads, g.KvHeads, g.KeyWidth, g.ValueWidth, g.PageTokens),
            tokens,
            dense,
            budget,
            formats,
            [.. Enum.GetValues<PageFormat>().Except(taken).Select(f => f.Name())]);
    }

    // Pages are written in full precision first: F16 unless the format is itself full precision.
    private static bool OpenTakes(PageFormat format, KvGeometry g) =>
        format.IsFullPrecision() || (PageFormat.F16.Takes(g.KeyWidth) && PageFormat.F16.Takes(g.ValueWidth));

    private static void Print(Terminal terminal, PlanReport report)
    {
        GeometryReport g = report.Geometry;
        terminal.Output.WriteLine(
            $"{g.Layers} layers, {g.QueryHeads} query heads, {g.KvHeads} KV heads of width {g.KeyWidth}; {Readable.Count(report.ContextTokens)} tokens in pages of {g.PageTokens}");
        terminal.Output.WriteLine($"dense F16 cache: {Readable.Bytes(report.DenseF16Bytes)}");
        Table table = report.BudgetBytes is null
            ? terminal.NewTable("keys", "values", "#bytes/\ntoken", "#bytes", "#of dense\nF16")
            : terminal.NewTable("keys", "values", "#bytes/\ntoken", "#bytes", "#of dense\nF16", "fits", "#tokens\nthat fit");
        if (report.BudgetBytes is { } budget)
        {
            terminal.Output.WriteLine($"budget: {Readable.Bytes(budget)}");
        }

        foreach (FormatPlanReport f in report.Formats)
        {
            List<string> cells =
            [
                f.KeyFormat, f.ValueFormat, f.BytesPerToken.ToString("#,0.##", CultureInfo.InvariantCulture),
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

        terminal.Output.WriteLine("bytes: pages and page tables of one sequence; working memory of steps and bookkeeping come on top.");
    }
}
