using KvCacheGpu.Evaluation;

namespace KvCacheGpu.Cli;

/// <summary>The document of <c>kvcache eval --json</c>.</summary>
/// <param name="Model">The model directory's own name.</param>
/// <param name="ModelFingerprint">Digest of its files.</param>
/// <param name="Device">The device's id.</param>
/// <param name="Scale">full or quick.</param>
/// <param name="PageTokens">Tokens in a page.</param>
/// <param name="StepTokens">Number of tokens read in a step.</param>
/// <param name="FirstSeed">The seed of the first prompt; those of the others follow it.</param>
/// <param name="Seeds">Number of prompts of each task.</param>
/// <param name="FullRecall">Recall with the full cache, with which all others are compared; null if no task with answers was run.</param>
/// <param name="Seconds">Time of the cells that were not finished before.</param>
/// <param name="Rows">One entry per task and cache.</param>
/// <param name="RefusedCaches">Caches that could not be made or filled.</param>
/// <param name="RefusedTasks">Tasks that the model cannot do.</param>
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
    double? FullRecall,
    double Seconds,
    IReadOnlyList<EvalRowReport> Rows,
    IReadOnlyList<RefusedCacheReport> RefusedCaches,
    IReadOnlyList<RefusedTaskReport> RefusedTasks,
    IReadOnlyList<string> Files)
{
    /// <summary>Makes the document of a table.</summary>
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
        [.. table.Refusals.Select(r => new RefusedCacheReport(r.Task, r.Setting.Format, r.Setting.Policy, r.Setting.Budget, r.Setting.AboveEmpty, r.Reason))],
        [.. table.RefusedTasks.Select(r => new RefusedTaskReport(r.Key, r.Value))],
        files);
}

/// <summary>A mean with its 95 % interval.</summary>
internal sealed record IntervalReport(double Mean, double Low, double High)
{
    /// <summary>Makes the document of an interval.</summary>
    public static IntervalReport Of(Interval interval) => new(interval.Mean, interval.Low, interval.High);
}

/// <summary>The results of a cache on a task; see <see cref="EvalRow"/>.</summary>
internal sealed record EvalRowReport(
    string Task,
    string Format,
    string Policy,
    double? Budget,
    bool AboveEmpty,
    int Scored,
    IntervalReport Accuracy,
    IntervalReport DeltaNll,
    double Perplexity,
    IntervalReport Kl,
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
    /// <summary>Makes the document of a row.</summary>
    public static EvalRowReport Of(EvalRow r) => new(
        r.Task,
        r.Setting.Format,
        r.Setting.Policy,
        r.Setting.Budget,
        r.Setting.AboveEmpty,
        r.Scored,
        IntervalReport.Of(r.Accuracy),
        IntervalReport.Of(r.DeltaNll),
        r.Perplexity,
        IntervalReport.Of(r.Kl),
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

/// <summary>Accuracy of one group of a task's answers: those of a needle's depth and length, or those of a call.</summary>
internal sealed record LabelReport(string Label, double Accuracy);

/// <summary>A cache that could not be made or filled, and its error.</summary>
internal sealed record RefusedCacheReport(string Task, string Format, string Policy, double? Budget, bool AboveEmpty, string Reason);

/// <summary>A task that the model cannot do, and how that was found.</summary>
internal sealed record RefusedTaskReport(string Task, string Reason);
