namespace KvCacheGpu.Evaluation;

/// <summary>What a cache did on a task, over all seeds.</summary>
/// <param name="Task">The task.</param>
/// <param name="Format">Format of sealed pages.</param>
/// <param name="Policy">The policy.</param>
/// <param name="Budget">Share of the dense F16 bytes, or null.</param>
/// <param name="FirstSeed">The first of the seeds.</param>
/// <param name="Seeds">Seeds.</param>
/// <param name="Scored">Tokens foreseen, of all seeds.</param>
/// <param name="Accuracy">Share of right ones.</param>
/// <param name="DeltaNll">Nats that each token is less foreseen than through the full cache.</param>
/// <param name="Nll">Mean -ln of the probability.</param>
/// <param name="Kl">Divergence of the full cache's distribution from this one, in nats.</param>
/// <param name="Agreement">Share at which the likeliest token is the full cache's.</param>
/// <param name="AllocatedBytes">The most bytes allocated, mean of the seeds.</param>
/// <param name="PageBytes">Bytes of pages at the end, mean of the seeds.</param>
/// <param name="DenseBytes">Bytes of dense F16 caches.</param>
/// <param name="EvictedTokens">Tokens dropped, mean of the seeds.</param>
/// <param name="ReadTokensPerSecond">Tokens read per second, median of the seeds.</param>
/// <param name="WriteTokensPerSecond">Tokens written one by one per second, median of the seeds; null where none were.</param>
/// <param name="Labels">Accuracy by label.</param>
public sealed record EvalRow(
    string Task,
    string Format,
    string Policy,
    double? Budget,
    int FirstSeed,
    int Seeds,
    int Scored,
    Interval Accuracy,
    Interval DeltaNll,
    double Nll,
    double Kl,
    double Agreement,
    double AllocatedBytes,
    double PageBytes,
    double DenseBytes,
    double EvictedTokens,
    double ReadTokensPerSecond,
    double? WriteTokensPerSecond,
    IReadOnlyDictionary<string, double> Labels)
{
    /// <summary>The cache.</summary>
    public EvalSetting Setting => new(Format, Policy, Budget);

    /// <summary>Allocated bytes / dense F16 bytes.</summary>
    public double Ratio => AllocatedBytes / DenseBytes;

    /// <summary>exp of the mean -ln of the probability.</summary>
    public double Perplexity => Math.Exp(Nll);
}

/// <summary>A cache that could not be made or filled for a task.</summary>
/// <param name="Task">The task.</param>
/// <param name="Setting">The cache.</param>
/// <param name="Reason">What the cache said.</param>
public sealed record EvalRefusal(string Task, EvalSetting Setting, string Reason);

/// <summary>What a run found.</summary>
/// <param name="FullRecall">Recall through the full cache.</param>
/// <param name="Rows">One per task and cache.</param>
/// <param name="Refusals">Caches that refused.</param>
/// <param name="RefusedTasks">Tasks that the model does not do, and why.</param>
public sealed record EvalTable(
    double FullRecall, IReadOnlyList<EvalRow> Rows, IReadOnlyList<EvalRefusal> Refusals, IReadOnlyDictionary<string, string> RefusedTasks)
{
    /// <summary>Puts the seeds of each task and cache together.</summary>
    public static EvalTable Of(IReadOnlyList<EvalCell> cells, IReadOnlyDictionary<string, string> refusedTasks, double fullRecall)
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
            first.Format,
            first.Policy,
            first.Budget,
            first.Seed,
            seeds.Length,
            seeds.Sum(c => c.Scored),
            Bootstrap.Mean([.. seeds.Select(c => c.Accuracy)]),
            Bootstrap.Mean([.. seeds.Select(c => c.DeltaNll)]),
            seeds.Average(c => c.Nll),
            seeds.Average(c => c.Kl),
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
