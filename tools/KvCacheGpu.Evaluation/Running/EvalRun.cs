using KvCacheGpu.Llama;

namespace KvCacheGpu.Evaluation;

/// <summary>The measurements of a run.</summary>
/// <param name="Tasks">The tasks.</param>
/// <param name="Settings">The caches; the full cache is always among them.</param>
/// <param name="Seeds">Number of prompts of each task.</param>
/// <param name="Scale">The size of the tasks.</param>
/// <param name="Device">The id of the caches' device.</param>
/// <param name="FirstSeed">The first of the seeds, 0 or more; the others follow it. The default value is 0.</param>
public sealed record EvalPlan(
    IReadOnlyList<EvalTask> Tasks, IReadOnlyList<EvalSetting> Settings, int Seeds, EvalScale Scale, string Device, int FirstSeed = 0);

/// <summary>The progress of a run.</summary>
/// <param name="Task">The task under way.</param>
/// <param name="Done">Number of its finished cells.</param>
/// <param name="Total">Number of its cells.</param>
public readonly record struct EvalProgress(string Task, int Done, int Total);

/// <summary>Measures every cache on every task: the full cache first, then the caches that are compared with it.</summary>
public sealed class EvalRun
{
    /// <summary>The recall with the full cache below which a run is void.</summary>
    public const double LeastRecall = .98;

    private readonly EvalPlan _plan;
    private readonly EvalText _text;
    private readonly EvalIdentity _identity;
    private readonly EvalTrial _trial;
    private readonly EvalSetting[] _settings;

    /// <summary>Prepares a run.</summary>
    /// <param name="model">The model.</param>
    /// <param name="text">The text from which prompts are made.</param>
    /// <param name="identity">The identity of the run's results.</param>
    /// <param name="plan">The measurements.</param>
    /// <param name="configure">Makes the configuration of a setting. The default value is null: <see cref="EvalCaches.Config"/>.</param>
    public EvalRun(LlamaModel model, EvalText text, EvalIdentity identity, EvalPlan plan, EvalConfigure? configure = null)
    {
        (_text, _identity, _plan) = (text, identity, plan);
        _trial = new EvalTrial(model, configure ?? EvalCaches.Config, plan.Device);
        _settings = [EvalSetting.Full, .. plan.Settings.Where(s => s != EvalSetting.Full)];
    }

    /// <summary>Runs the cells that the results do not have yet.</summary>
    /// <param name="results">Finished cells; new ones are added.</param>
    /// <param name="progress">Receives the progress after each finished cell. The default value is null.</param>
    /// <param name="cancellationToken">Is checked between steps; finished cells stay.</param>
    /// <exception cref="EvalVoidException">The recall of the full cache is too low, or a cache did not compress.</exception>
    public EvalTable Run(ResultsFile results, IProgress<EvalProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(results);
        EvalTask gate = EvalTask.Gate;
        FullTrial[] recall = Full(gate, results, progress, cancellationToken);
        double right = recall.Average(f => f.Cell.Accuracy);
        if (right < LeastRecall)
        {
            throw new EvalVoidException(Invariant($"expected a full-cache recall of at least {100 * LeastRecall:F0} %, got {100 * right:F1} %"));
        }

        List<EvalCell> cells = [];
        Dictionary<string, string> refused = [];
        foreach (EvalTask task in _plan.Tasks)
        {
            FullTrial[] full = task == gate ? recall : Full(task, results, progress, cancellationToken);
            double accuracy = full.Average(f => f.Cell.Accuracy);
            if (task.HasAnswers && accuracy < EvalTask.LeastAccuracy)
            {
                refused[task.Name] = Invariant(
                    $"the model itself does not do it: full-cache accuracy {100 * accuracy:F1} %, at least {100 * EvalTask.LeastAccuracy:F0} % expected");
                continue;
            }

            cells.AddRange(Compare(task, full, results, progress, cancellationToken));
        }

        return EvalTable.Of(cells, refused, right);
    }

    private FullTrial[] Full(EvalTask task, ResultsFile results, IProgress<EvalProgress>? progress, CancellationToken cancellationToken)
    {
        FullTrial[] trials = new FullTrial[_plan.Seeds];
        for (int i = 0; i < trials.Length; i++)
        {
            int seed = _plan.FirstSeed + i;
            FullTrial trial = trials[i] = new(_trial, task.Prompts(_text, _plan.Scale, seed), cancellationToken);
            EvalCell named = Named(task, seed, EvalSetting.Full);
            trial.Cell = results.Find(named.Id) ?? trial.Result.Score(named, trial.Result);
            if (results.Find(named.Id) is null)
            {
                results.Add(trial.Cell);
            }

            progress?.Report(new EvalProgress(task.Name, i + 1, _plan.Seeds * _settings.Length));
        }

        return trials;
    }

    private List<EvalCell> Compare(
        EvalTask task, FullTrial[] full, ResultsFile results, IProgress<EvalProgress>? progress, CancellationToken cancellationToken)
    {
        List<EvalCell> cells = [.. full.Select(f => f.Cell)];
        foreach (EvalSetting setting in _settings.Skip(1))
        {
            for (int i = 0; i < full.Length; i++)
            {
                EvalCell named = Named(task, full[i].Cell.Seed, setting);
                EvalCell? cell = results.Find(named.Id);
                if (cell is null)
                {
                    cell = Measure(named, full[i], cancellationToken);
                    results.Add(cell);
                }

                cells.Add(cell);
                if (CompressionProof.Fault(cell, full[i].Cell) is { } fault)
                {
                    throw new EvalVoidException(fault);
                }

                progress?.Report(new EvalProgress(task.Name, cells.Count, _plan.Seeds * _settings.Length));
            }
        }

        return cells;
    }

    private EvalCell Measure(EvalCell named, FullTrial full, CancellationToken cancellationToken)
    {
        try
        {
            IReadOnlyList<FutureMass>? futures = named.Policy == EvalCaches.Oracle ? full.Futures : null;
            return _trial.Run(full.Prompts, named.Setting, futures, cancellationToken).Score(named, full.Result);
        }
        catch (Exception e) when (e is KvConfigurationException or KvOutOfMemoryException or KvUnsupportedException)
        {
            return named with { Refused = e.Message };
        }
    }

    private EvalCell Named(EvalTask task, int seed, EvalSetting setting) => new()
    {
        Id = _identity.Of(task, seed, setting),
        Task = task.Name,
        Seed = seed,
        Format = setting.Format,
        Policy = setting.Policy,
        Budget = setting.Budget,
    };

    private static string Invariant(FormattableString text) => FormattableString.Invariant(text);

    /// <summary>One task and seed with the full cache, which is run when something is first compared with it.</summary>
    private sealed class FullTrial(EvalTrial trial, IReadOnlyList<EvalPrompt> prompts, CancellationToken cancellationToken)
    {
        private TrialResult? _result;
        private IReadOnlyList<FutureMass>? _futures;

        public IReadOnlyList<EvalPrompt> Prompts => prompts;

        public TrialResult Result => _result ??= trial.Run(prompts, EvalSetting.Full, futures: null, cancellationToken);

        public IReadOnlyList<FutureMass> Futures => _futures ??= trial.Foresee(prompts, cancellationToken);

        public EvalCell Cell { get; set; } = null!;
    }
}

/// <summary>The run tells nothing about caches: the recall with a full cache is too low, or nothing was compressed.</summary>
public sealed class EvalVoidException : Exception
{
    /// <summary>Makes the error with its reason.</summary>
    public EvalVoidException(string reason)
        : base($"E009: eval: {reason}: the run is void")
    {
    }
}
