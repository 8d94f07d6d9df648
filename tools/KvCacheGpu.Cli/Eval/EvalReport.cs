using KvCacheGpu.Evaluation;

namespace KvCacheGpu.Cli;

/// <summary>The document of <c>kvcache eval --json</c>.</summary>
/// <param name="Model">The model directory's own name.</param>
/// <param name="ModelFingerprint">Digest of its files.</param>
/// <param name="Device">The device's id.</param>
/// <param name="Scale">full or quick.</param>
/// <param name="PageTokens">Tokens in a page.</param>
/// <param name="StepTokens">Tokens read in a step.</param>
/// <param name="FirstSeed">The first prompt's seed; the others' follow it.</param>
/// <param name="Seeds">Prompts of each task.</param>
/// <param name="FullRecall">Recall through the full cache, that the run stands on.</param>
/// <param name="Seconds">Time of everything that was not done before.</param>
/// <param name="Rows">One entry per task and cache.</param>
/// <param name="RefusedCaches">Caches that could not be made or filled.</param>
/// <param name="RefusedTasks">Tasks that the model does not do.</param>
/// <param name="Files">Files written.</param>
internal sealed record EvalReport(
    string Model,
    string ModelFingerprint,
    string Device,
    string Scale,
    int PageTokens,
    int StepTokens,
    int FirstSeed,
    int Seeds,
    double FullRecall,
    double Seconds,
    IReadOnlyList<EvalRowReport> Rows,
    IReadOnlyList<RefusedCacheReport> RefusedCaches,
    IReadOnlyList<RefusedTaskReport> RefusedTasks,
    IReadOnlyList<string> Files)
{
    /// <summary>Puts a table into the document.</summary>
    public static EvalReport Of(EvalTable table, EvalPlan plan, string model, string fingerprint, double seconds, IReadOnlyList<string> files) => new(
        model,
        fingerprint,
        plan.Device,
        plan.Scale.Name,
        EvalScale.PageTokens,
        EvalScale.StepTokens,
        plan.FirstSeed,
        plan.Seeds,
        table.FullRecall,
        seconds,
        [.. table.Rows.Select(EvalRowReport.Of)],
        [.. table.Refusals.Select(r => new RefusedCacheReport(r.Task, r.Setting.Format, r.Setting.Policy, r.Setting.Budget, r.Reason))],
        [.. table.RefusedTasks.Select(r => new RefusedTaskReport(r.Key, r.Value))],
        files);
}

/// <summary>A mean with its 95 % interval.</summary>
internal sealed record IntervalReport(double Mean, double Low, double High)
{
    /// <summary>Of an interval.</summary>
    public static IntervalReport Of(Interval interval) => new(interval.Mean, interval.Low, interval.High);
}

/// <summary>What a cache did on a task; see <see cref="EvalRow"/>.</summary>
internal sealed record EvalRowReport(
    string Task,
    string Format,
    string Policy,
    double? Budget,
    int Scored,
    IntervalReport Accuracy,
    IntervalReport DeltaNll,
    double Perplexity,
    double Kl,
    double Agreement,
    double AllocatedBytes,
    double PageBytes,
    double DenseF16Bytes,
    double Ratio,
    double EvictedTokens,
    double ReadTokensPerSecond,
    double? WriteTokensPerSecond,
    IReadOnlyList<LabelReport> Labels)
{
    /// <summary>Of a row.</summary>
    public static EvalRowReport Of(EvalRow r) => new(
        r.Task,
        r.Format,
        r.Policy,
        r.Budget,
        r.Scored,
        IntervalReport.Of(r.Accuracy),
        IntervalReport.Of(r.DeltaNll),
        r.Perplexity,
        r.Kl,
        r.Agreement,
        r.AllocatedBytes,
        r.PageBytes,
        r.DenseBytes,
        r.Ratio,
        r.EvictedTokens,
        r.ReadTokensPerSecond,
        r.WriteTokensPerSecond,
        [.. r.Labels.Select(l => new LabelReport(l.Key, l.Value))]);
}

/// <summary>Accuracy of the answers that a task tells apart: of a needle's depth and length, of a call.</summary>
internal sealed record LabelReport(string Label, double Accuracy);

/// <summary>A cache that could not be made or filled, and what it said.</summary>
internal sealed record RefusedCacheReport(string Task, string Format, string Policy, double? Budget, string Reason);

/// <summary>A task that the model does not do, and how that showed.</summary>
internal sealed record RefusedTaskReport(string Task, string Reason);
