namespace KvCacheGpu.Evaluation;

/// <summary>The results of a cache on a task, over all seeds.</summary>
/// <param name="Task">The task.</param>
/// <param name="Setting">The cache.</param>
/// <param name="FirstSeed">The first of the seeds.</param>
/// <param name="Seeds">Number of seeds.</param>
/// <param name="Scored">Number of predicted tokens of all seeds.</param>
/// <param name="Accuracy">Share of right predictions.</param>
/// <param name="DeltaNll">Nll minus that of the full cache, in nats per token.</param>
/// <param name="Nll">Mean of -ln of the tokens' probabilities.</param>
/// <param name="Kl">Divergence of the full cache's distribution from this one, in nats.</param>
/// <param name="Agreement">Share of tokens for which the most likely token is that of the full cache.</param>
/// <param name="AllocatedBytes">The most bytes allocated, mean of the seeds.</param>
/// <param name="PageBytes">Bytes of pages at the end, mean of the seeds.</param>
/// <param name="DenseBytes">Bytes of dense F16 caches.</param>
/// <param name="EvictedTokens">Number of dropped tokens, mean of the seeds.</param>
/// <param name="ReadTokensPerSecond">Tokens read per second, median of the seeds.</param>
/// <param name="WriteTokensPerSecond">Tokens written one by one per second, median of the seeds; null if none were written.</param>
/// <param name="Labels">Accuracy by label.</param>
public sealed record EvalRow(
    string Task,
    EvalSetting Setting,
    int FirstSeed,
    int Seeds,
    int Scored,
    Interval Accuracy,
    Interval DeltaNll,
    double Nll,
    Interval Kl,
    double Agreement,
    double AllocatedBytes,
    double PageBytes,
    double DenseBytes,
    double EvictedTokens,
    double ReadTokensPerSecond,
    double? WriteTokensPerSecond,
    IReadOnlyDictionary<string, double> Labels)
{
    /// <summary>Allocated bytes divided by dense F16 bytes.</summary>
    public double Ratio => AllocatedBytes / DenseBytes;

    /// <summary>exp of the mean of -ln of the tokens' probabilities.</summary>
    public double Perplexity => Math.Exp(Nll);
}

/// <summary>A cache that could not be made or filled for a task.</summary>
/// <param name="Task">The task.</param>
/// <param name="Setting">The cache.</param>
/// <param name="Reason">The error of the cache.</param>
public sealed record EvalRefusal(string Task, EvalSetting Setting, string Reason);

/// <summary>The results of a run.</summary>
/// <param name="FullRecall">Recall with the full cache; null if no task with answers was run.</param>
/// <param name="Rows">One per task and cache.</param>
/// <param name="Refusals">Caches that refused.</param>
/// <param name="RefusedTasks">Tasks that the model cannot do, with the reasons.</param>
public sealed record EvalTable(
    double? FullRecall, IReadOnlyList<EvalRow> Rows, IReadOnlyList<EvalRefusal> Refusals, IReadOnlyDictionary<string, string> RefusedTasks)
{
    /// <summary>Combines the seeds of each task and cache.</summary>
    public static EvalTable Of(IReadOnlyList<EvalCell> cells, IReadOnlyDictionary<string, string> refusedTasks, double? fullRecall)
    {
        ArgumentNullException.ThrowIfNull(cells);
        List<EvalRow> rows = [];
        List<EvalRefusal> refusals = [];
        foreach (IGrouping<(string Task, EvalSetting Setting), EvalCell> group in cells.GroupBy(c => (c.Task, c.Setting)))
        {
            EvalCell[] seeds = [.. group.OrderBy(c => c.Seed)];
            if (seeds.FirstOrDefault(c => c.Refused is not null) is { } refused)
            {
                refusals.Add(new EvalRefusal(refused.Task, refused.Setting, refused.Refused!));
                continue;
            }

            rows.Add(Row(seeds));
        }

        return new EvalTable(fullRecall, rows, refusals, refusedTasks);
    }

    private static EvalRow Row(EvalCell[] seeds)
    {
        EvalCell first = seeds[0];
        return new EvalRow(
            first.Task,
            first.Setting,
            first.Seed,
            seeds.Length,
            seeds.Sum(c => c.Scored),
            Bootstrap.Mean([.. seeds.Select(c => c.Accuracy)]),
            Bootstrap.Mean([.. seeds.Select(c => c.DeltaNll)]),
            seeds.Average(c => c.Nll),
            Bootstrap.Mean([.. seeds.Select(c => c.Kl)]),
            seeds.Average(c => c.Agreement),
            seeds.Average(c => (double)c.AllocatedBytes),
            seeds.Average(c => (double)c.PageBytes),
            seeds.Average(c => (double)c.DenseBytes),
            seeds.Average(c => c.EvictedTokens),
            Median([.. seeds.Select(c => c.ReadTokensPerSecond)]),
            first.WriteTokensPerSecond is null ? null : Median([.. seeds.Select(c => c.WriteTokensPerSecond ?? 0)]),
            first.Labels.Keys.ToDictionary(label => label, label => seeds.Average(c => c.Labels.GetValueOrDefault(label))));
    }

    private static double Median(double[] values)
    {
        Array.Sort(values);
        return values[values.Length / 2];
    }
}
