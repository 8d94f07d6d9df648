using System.CommandLine;
using System.Globalization;
using KvCacheGpu.Kernels;
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
        Option<int?> context = Choice.Number("--context", "Tokens of each sequence.", 1);
        Option<int?> sequences = Choice.Number("--sequences", "Sequences that have so many tokens. Default: 1.", 1);
        Option<int?> pageTokens = Choice.Number("--page-tokens", $"Tokens in a page. Default: {DefaultPageTokens}.", 1);
        Option<MemoryBudget?> budget = Choice.Budget();
        Option<MemoryBudget?> host = TierOptions.HostBudget();
        Option<MemoryBudget?> disk = TierOptions.DiskBudget("Bytes of a folder for them. Default: none.");
        Option<MemoryBudget?> offload = TierOptions.Offload("Bytes of host memory for pages that a policy lets go. Default: none.");
        Option<bool> json = Choice.Json();
        context.Required = true;
        Command command = new("plan", "What a context takes in every format, and what fits, before allocating.")
        {
            model, geometry, context, sequences, pageTokens, budget, host, disk, offload, json,
        };
        command.SetAction(parsed =>
        {
            KvGeometry shape = Shape(parsed.GetValue(model), parsed.GetValue(geometry), parsed.GetValue(pageTokens) ?? DefaultPageTokens);
            int tokens = parsed.GetValue(context)!.Value;
            if (tokens > TableMap.MaxPageIndex)
            {
                throw new UsageException("--context", $"at most {TableMap.MaxPageIndex} tokens", $"{tokens}");
            }

            int count = parsed.GetValue(sequences) ?? 1;
            PlanReport report;
            try
            {
                report = Plan(shape, tokens, count, parsed.GetValue(budget));
                report = report.WithTiers(parsed.GetValue(host)?.Bytes, parsed.GetValue(disk)?.Bytes, parsed.GetValue(offload)?.Bytes);
            }
            catch (OverflowException)
            {
                throw TooMany(shape, tokens, count);
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

    private static PlanReport Plan(KvGeometry g, int tokens, int sequences, MemoryBudget? budget)
    {
        long all = (long)tokens * sequences;
        long? bytes = budget?.BytesFor(g, all);
        KvFormats[] pairs = [.. from key in Enum.GetValues<PageFormat>()
                                from value in Enum.GetValues<PageFormat>()
                                where PageFormats.IsPair(key, value) && key.Takes(g.KeyWidth) && value.Takes(g.ValueWidth) && OpenTakes(key, value, g)
                                select new KvFormats(key, value)];
        return new PlanReport(
            new GeometryReport(g.Layers, g.QueryHeads, g.KvHeads, g.KeyWidth, g.ValueWidth, g.PageTokens),
            tokens,
            sequences,
            g.DenseF16Bytes(tokens),
            g.DenseF16Bytes(all),
            bytes,
            [.. pairs.Select(pair => PlanOf(g, pair, tokens, sequences, bytes))],
            [.. Enum.GetValues<PageFormat>().Where(f => !Array.Exists(pairs, p => p.Key == f || p.Value == f)).Select(f => f.Name())]);
    }

    private static FormatPlanReport PlanOf(KvGeometry g, KvFormats pair, int tokens, int sequences, long? budget)
    {
        ContextPlan plan;
        try
        {
            plan = new ContextPlan(g, pair.Key, pair.Value, tokens, sequences);
        }
        catch (KvConfigurationException)
        {
            throw TooMany(g, tokens, sequences);
        }

        KvSequenceBytes one = plan.Sequence(tokens);
        long bytes = one.Pages + one.Tables;
        long? empty = plan.EmptyCacheBytes;
        long? cache = empty + (sequences * (bytes + one.Bookkeeping));
        return new FormatPlanReport(
            pair.Key.Name(),
            pair.Value.Name(),
            [.. plan.Layers.GroupBy(l => (l.KeyFormat, l.ValueFormat)).Select(l => new LayersReport(l.Key.KeyFormat.Name(), l.Key.ValueFormat.Name(), l.Count()))],
            plan.SealedPageBytes,
            plan.BytesPerToken,
            plan.ElementBytesPerToken,
            plan.ScaleBytesPerToken,
            plan.MeanBytesPerToken,
            plan.DeviationBytesPerToken,
            plan.PaddingBytesPerToken,
            (double)one.Tables / tokens,
            one.Pages,
            one.Tables,
            bytes,
            (double)bytes / g.DenseF16Bytes(tokens),
            one.Bookkeeping,
            one.HostTables,
            sequences * one.Pages,
            sequences * one.Tables,
            sequences * one.Bookkeeping,
            empty,
            cache,
            (double?)cache / g.DenseF16Bytes((long)tokens * sequences),
            budget is null ? null : plan.PeakBytes(tokens) <= budget / sequences,
            budget is null ? null : plan.TokensIn(budget.Value / sequences))
        {
            BlockBytes = plan.BlockBytes,
        };
    }

    private static UsageException TooMany(KvGeometry g, int tokens, int sequences) => new(
        "--sequences", "as many as page tables of fewer than 2^31 words list", $"{sequences} sequences of {tokens} tokens in pages of {g.PageTokens}");

    // Pages are written in full precision first: F16 unless one of the formats is itself full precision.
    private static bool OpenTakes(PageFormat key, PageFormat value, KvGeometry g)
    {
        PageFormat open = key.IsFullPrecision() ? key : value.IsFullPrecision() ? value : PageFormat.F16;
        return open.Takes(g.KeyWidth) && open.Takes(g.ValueWidth);
    }

    private static void PrintTiers(Terminal terminal, PlanReport report)
    {
        if (report.HostBudgetBytes is null && report.DiskBudgetBytes is null && report.OffloadBytes is null)
        {
            return;
        }

        Table table = terminal.NewTable("keys", "values", "#bytes of\na block", "#tokens in\nhost memory", "#tokens\non disk", "#tokens\noffloaded");
        foreach (FormatPlanReport f in report.Formats)
        {
            table.AddRow(f.KeyFormat, f.ValueFormat, Readable.Bytes(f.BlockBytes), Tokens(f.HostTokens), Tokens(f.DiskTokens), Tokens(f.OffloadTokens));
        }

        terminal.Write(table);

        static string Tokens(long? tokens) => tokens is { } count ? Readable.Count(count) : "-";
    }

    private static void Print(Terminal terminal, PlanReport report)
    {
        GeometryReport g = report.Geometry;
        string many = report.Sequences == 1 ? string.Empty : $"{Readable.Count(report.Sequences)} sequences of ";
        terminal.Output.WriteLine(
            $"{g.Layers} layers, {g.QueryHeads} query heads, {g.KvHeads} KV heads of width {g.KeyWidth}; {many}{Readable.Count(report.ContextTokens)} tokens in pages of {g.PageTokens}");
        terminal.Output.WriteLine($"dense F16 cache: {Readable.Bytes(report.SequencesDenseF16Bytes)}");
        string[] columns = ["keys", "values", "#bytes/\ntoken", "#elements", "#scales", "#means", "#devia-\ntions", "#tables", "#bytes", "#of dense\nF16", "#cache", "#of dense\nF16"];
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
                f.CacheBytes is { } cache ? Readable.Bytes(cache) : "-", f.CacheRatio is { } ratio ? Readable.Percent(ratio) : "-",
            ];
            if (f.Fits is { } fits)
            {
                cells.Add(fits ? "yes" : "no");
                cells.Add(Readable.Count(f.FittingTokens!.Value));
            }

            table.AddRow([.. cells]);
        }

        terminal.Write(table);
        PrintTiers(terminal, report);
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
        terminal.Output.WriteLine("bytes: pages, the last of them open, and page tables of one sequence.");
        terminal.Output.WriteLine("cache: those of all sequences, their bookkeeping, and an empty cache on the CPU: the root of its tables and the working memory of a step.");
    }
}
