using KvCacheGpu.Evaluation;
using Spectre.Console;

namespace KvCacheGpu.Cli;

/// <summary>The document of <c>kvcache eval --synthetic --json</c>.</summary>
internal sealed record SyntheticReport(string Device, int Tokens, int Written, int FirstSeed, int Seeds, IReadOnlyList<SyntheticRowReport> Rows)
{
    /// <summary>Measures the caches of a plan on attention of some families.</summary>
    public static SyntheticReport Of(EvalPlan plan, IReadOnlyList<SyntheticFamily> families) => new(
        plan.Device,
        SyntheticRun.Tokens,
        SyntheticRun.Written,
        plan.FirstSeed,
        plan.Seeds,
        [
            .. families.SelectMany(family => SyntheticRun.Run(plan.Settings, plan.Seeds, plan.Device, plan.FirstSeed, family).Select(r => new SyntheticRowReport(
                Name(family), r.Setting.Format, r.Setting.Policy, r.Setting.Budget, r.Setting.AboveEmpty, r.OutputError, r.MassRecall, r.Ratio, r.EvictedTokens, r.Refused))),
        ]);

    /// <summary>The name of a family on the command line.</summary>
    public static string Name(SyntheticFamily family) => family.ToString().ToLowerInvariant();

    /// <summary>Prints the document for people.</summary>
    public void Print(Terminal terminal)
    {
        Table table = terminal.NewTable("attention", "cache", "#output error", "#mass recall", "#of dense\nF16", "#dropped");
        foreach (SyntheticRowReport r in Rows.Where(r => r.Refused is null))
        {
            table.AddRow(
                r.Family, Markup.Escape(r.Name()), Readable.Percent(r.OutputError), Readable.Percent(r.MassRecall), Readable.Percent(r.Ratio), Readable.Count(r.EvictedTokens));
        }

        terminal.Write(table);
        foreach (SyntheticRowReport r in Rows.Where(r => r.Refused is not null))
        {
            terminal.Output.WriteLine($"{r.Family}, {r.Name()}: refused: {r.Refused}");
        }

        terminal.Output.WriteLine(
            $"Made-up keys with outliers and a sink: {Tokens} tokens on {Device}, the last {Written} measured, {Seeds} seeds from {FirstSeed} on.");
    }
}

/// <summary>The results of one cache.</summary>
internal sealed record SyntheticRowReport(
    string Family, string Format, string Policy, double? Budget, bool AboveEmpty, double OutputError, double MassRecall, double Ratio, double EvictedTokens, string? Refused)
{
    /// <summary>The name of the cache in tables.</summary>
    public string Name() => new EvalSetting(Format, Policy, Budget, AboveEmpty).ToString();
}
