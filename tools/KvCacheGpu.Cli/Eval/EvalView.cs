using System.Globalization;
using KvCacheGpu.Evaluation;
using Spectre.Console;

namespace KvCacheGpu.Cli;

/// <summary>Prints an evaluation for people.</summary>
internal static class EvalView
{
    /// <summary>Prints the table, the refused caches and tasks, and the method of measurement.</summary>
    public static void Print(Terminal terminal, EvalReport report)
    {
        terminal.Output.WriteLine();
        Table table = terminal.NewTable(
            "task", "cache", "#right", "#95 %", "#Δ nll", "#95 %", "#KL", "#top-1", "#bytes\nin use", "#of dense\nF16", "#dropped", "#read\ntokens/s", "#write\ntokens/s");
        foreach (EvalRowReport r in report.Rows)
        {
            table.AddRow(
                r.Task,
                Markup.Escape(new EvalSetting(r.Format, r.Policy, r.Budget, r.AboveEmpty).ToString()),
                Readable.Percent(r.Accuracy.Mean),
                string.Create(CultureInfo.InvariantCulture, $"{100 * r.Accuracy.Low:F0}..{100 * r.Accuracy.High:F0}"),
                r.DeltaNll.Mean.ToString("F3", CultureInfo.InvariantCulture),
                string.Create(CultureInfo.InvariantCulture, $"{r.DeltaNll.Low:F3}..{r.DeltaNll.High:F3}"),
                Divergence(r.Kl),
                Readable.Percent(r.Agreement),
                Readable.Bytes(r.AllocatedBytes),
                Readable.Percent(r.Ratio),
                Readable.Count(r.EvictedTokens),
                Readable.Count(r.ReadTokensPerSecond),
                r.WriteTokensPerSecond is { } speed ? Readable.Count(speed) : string.Empty);
        }

        terminal.Write(table);
        foreach (RefusedCacheReport r in report.RefusedCaches)
        {
            terminal.Output.WriteLine($"{r.Task}, {new EvalSetting(r.Format, r.Policy, r.Budget, r.AboveEmpty)}: refused: {r.Reason}");
        }

        foreach (RefusedTaskReport r in report.RefusedTasks)
        {
            terminal.Output.WriteLine($"{r.Task}: refused: {r.Reason}");
        }

        string[] tasks = [.. report.Rows.Select(r => r.Task).Distinct()];
        foreach (EvalTask task in EvalTask.All.Where(t => tasks.Contains(t.Name)))
        {
            terminal.Output.WriteLine($"{task.Name}: {task.Summary}.");
        }

        terminal.Output.WriteLine(
            $"{report.Model} on {report.Device}, {report.Seeds} seeds from {report.FirstSeed} on; intervals by bootstrap over seeds; Δ nll, KL, top-1 against {EvalSetting.Full}"
            + (report.FullRecall is { } recall ? $", whose recall is {Readable.Percent(recall)}." : "."));
        terminal.Output.WriteLine("KL: nats per token; ± is half of its 95 % interval.");
        terminal.Output.WriteLine("bytes in use: the most after any step: pages, tables, bookkeeping and working memory.");
        foreach (string file in report.Files)
        {
            terminal.Output.WriteLine(file);
        }

        terminal.Output.WriteLine($"{Readable.Decimal(report.Seconds)} seconds in all.");
    }

    private static string Divergence(IntervalReport kl) =>
        kl.Mean > 0 ? string.Create(CultureInfo.InvariantCulture, $"{kl.Mean:G2} ±{100 * (kl.High - kl.Low) / 2 / kl.Mean:F0} %") : "0";
}
