using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using KvCacheGpu.Evaluation;
using KvCacheGpu.Llama;
using Spectre.Console;

namespace KvCacheGpu.Cli;

/// <summary><c>kvcache demo</c>: one document read through caches in full precision, compressed, evicted and restored.</summary>
internal static class DemoCommand
{
    /// <summary>Makes the command.</summary>
    public static Command Create(Terminal terminal)
    {
        Option<bool> json = Choice.Json();
        Command command = new("demo", "Read a document with facts through several caches, ask for the facts, and compare.") { json };
        command.SetAction(parsed =>
        {
            bool quiet = parsed.GetValue(json);
            DemoReport report = terminal.WithProgress(quiet, Run);
            if (quiet)
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

    private static DemoReport Run(IStages stages)
    {
        long start = Stopwatch.GetTimestamp();
        string device = KvDevice.Resolve("auto").Id;
        using LlamaModel model = DemoModel.Load();
        DemoText text = DemoText.Create(model.Tokenizer!, DemoModel.ReadDocument());
        DemoTrial[] trials = [.. DemoSetup.All.Select(setup => new DemoTrial(model, text, setup, device))];
        IProgress<int> warmed = stages.Begin("warming up", trials.Length);
        foreach ((int i, DemoTrial trial) in trials.Index())
        {
            trial.WarmUp();
            warmed.Report(i + 1);
        }

        DemoCacheReport[] caches = [.. trials.Select(trial => trial.Run(stages))];
        return new DemoReport(
            model.Name,
            device,
            text.Document.Length,
            text.Facts.Count,
            text.Continuation.Length,
            DemoSetup.PageTokens,
            model.Geometry(DemoSetup.PageTokens).DenseF16Bytes(text.Document.Length),
            Stopwatch.GetElapsedTime(start).TotalSeconds,
            caches);
    }

    private static void Print(Terminal terminal, DemoReport report)
    {
        terminal.Output.WriteLine();
        Table table = terminal.NewTable("cache", "#recall", "#perplexity", "#bytes\nin use", "#dense\nF16", "#ratio", "#prefill\ntokens/s", "#decode\ntokens/s");
        foreach (DemoCacheReport c in report.Caches)
        {
            table.AddRow(
                Markup.Escape(c.Name),
                $"{c.Right}/{c.Asked}",
                c.Perplexity.ToString("F3", CultureInfo.InvariantCulture),
                Readable.Bytes(c.AllocatedBytes),
                Readable.Bytes(report.FullPrecisionBytes),
                Readable.Percent(c.Ratio),
                Readable.Count(c.PrefillTokensPerSecond),
                Readable.Count(c.DecodeTokensPerSecond));
        }

        terminal.Write(table);
        terminal.Output.WriteLine(
            $"{report.Model} on {report.Device}: a document of {Readable.Count(report.DocumentTokens)} tokens with {report.Facts} facts, pages of {report.PageTokens} tokens.");
        terminal.Output.WriteLine("recall: questions answered with the document's word; each put to a fork of the document, read before any was known.");
        terminal.Output.WriteLine(
            $"perplexity: of the {report.PerplexityTokens - 1} tokens of held-out text after the document, each predicted as it is decoded through the cache.");
        terminal.Output.WriteLine(
            "bytes in use: pages, tables, bookkeeping and working memory, once the document was read.");
        foreach (DemoCacheReport c in report.Caches.Where(c => c.WindowTokens is not null))
        {
            terminal.Output.WriteLine(
                $"{c.Name}: keeps the newest {c.WindowTokens} tokens and 4 sinks; it dropped {Readable.Count(c.EvictedTokens)} tokens, and the facts in them.");
        }

        foreach (DemoCacheReport c in report.Caches.Where(c => c.Restored is not null))
        {
            terminal.Output.WriteLine(
                $"{c.Name}: saved to a store once the document was read, and restored into a new cache, {(c.Restored!.Exact ? "bit for bit" : string.Join("; ", c.Restored.Notes))}: {Readable.Count(c.Restored.ExactPages)} pages.");
        }

        terminal.Output.WriteLine($"{Readable.Decimal(report.Seconds)} seconds in all.");
    }
}
