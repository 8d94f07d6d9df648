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
    /// <summary>The recall with the full cache below which a run of tasks that have answers is void.</summary>
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
    /// <exception cref="EvalVoidException">
    /// The recall of the full cache is too low for tasks that have answers, a cache did not compress, or the model can do none of the tasks.
    /// </exception>
    public EvalTable Run(ResultsFile results, IProgress<EvalProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(results);
        Steps steps = new(results, progress, cancellationToken);
        EvalTask gate = EvalTask.Gate;
        FullTrial[]? recall = null;
        if (_plan.Tasks.Any(task => task.HasAnswers) && RefusalOf(gate) is null)
        {
            recall = [.. Full(gate, steps)];
            double right = recall.Average(f => f.Cell.Accuracy);
            if (right < LeastRecall)
            {
                string others = string.Join(", ", EvalTask.All.Where(task => !task.HasAnswers).Select(task => task.Name));
                throw new EvalVoidException(
                    Invariant($"expected a full-cache recall of at least {100 * LeastRecall:F0} %, without which only {others} can be measured, got {100 * right:F1} %"));
            }
        }

        List<EvalCell> cells = [];
        Dictionary<string, string> refused = [];
        foreach (EvalTask task in _plan.Tasks)
        {
            if (RefusalOf(task) is { } reason)
            {
                refused[task.Name] = reason;
                continue;
            }

            // All tokens of a text are scored: the logits of one seed are much, and those of all seeds too much. Answers are few, and tell whether there is anything to compare.
            IEnumerable<FullTrial> full = task == gate ? recall! : task.HasAnswers ? [.. Full(task, steps)] : Full(task, steps);
            if (task.HasAnswers && full.Average(f => f.Cell.Accuracy) is < EvalTask.LeastAccuracy and double accuracy)
            {
                refused[task.Name] = Invariant(
                    $"the model itself does not do it: full-cache accuracy {100 * accuracy:F1} %, at least {100 * EvalTask.LeastAccuracy:F0} % expected");
                continue;
            }

            foreach (FullTrial trial in full)
            {
                cells.Add(trial.Cell);
                cells.AddRange(Compare(task, trial, steps));
            }
        }

        return refused.Count > 0 && refused.Count == _plan.Tasks.Count
            ? throw new EvalVoidException($"the model can do none of the tasks: {refused.First().Key}: {refused.First().Value}")
            : EvalTable.Of(cells, refused, recall?.Average(f => f.Cell.Accuracy));
    }

    // The reason why a task's prompts cannot be made for this model and text; null if they can.
    private string? RefusalOf(EvalTask task)
    {
        if (task.NeedsFacts && _text.FactsRefusal is { } reason)
        {
            return reason;
        }

        try
        {
            task.Prompts(_text, _plan.Scale, _plan.FirstSeed);
            return null;
        }
        catch (ArgumentException e)
        {
            return e.Message;
        }
    }

    private IEnumerable<FullTrial> Full(EvalTask task, Steps steps)
    {
        for (int i = 0; i < _plan.Seeds; i++)
        {
            int seed = _plan.FirstSeed + i;
            FullTrial trial = new(_trial, task.Prompts(_text, _plan.Scale, seed), steps.CancellationToken);
            EvalCell named = Named(task, seed, EvalSetting.Full);
            trial.Cell = steps.Results.Find(named.Id) ?? steps.Keep(trial.Result.Fill(named));
            steps.Report(task, _plan.Seeds * _settings.Length);
            yield return trial;
        }
    }

    private List<EvalCell> Compare(EvalTask task, FullTrial full, Steps steps)
    {
        List<EvalCell> cells = [];
        foreach (EvalSetting setting in _settings.Skip(1))
        {
            EvalCell named = Named(task, full.Cell.Seed, setting);
            EvalCell cell = steps.Results.Find(named.Id) ?? steps.Keep(Measure(named, full, steps.CancellationToken));
            cells.Add(cell);
            if (CompressionProof.Fault(cell, full.Cell) is { } fault)
            {
                throw new EvalVoidException(fault);
            }

            steps.Report(task, _plan.Seeds * _settings.Length);
        }

        full.Forget();
        return cells;
    }

    private EvalCell Measure(EvalCell named, FullTrial full, CancellationToken cancellationToken)
    {
        try
        {
            IReadOnlyList<FutureMass>? futures = named.Policy == EvalCaches.Oracle ? full.Futures : null;
            return _trial.Run(full.Prompts, named.Setting, full.Result, futures, cancellationToken).Fill(named);
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
        AboveEmpty = setting.AboveEmpty,
    };

    private static string Invariant(FormattableString text) => FormattableString.Invariant(text);

    /// <summary>The results of a run under way, and the number of its finished cells.</summary>
    private sealed class Steps(ResultsFile results, IProgress<EvalProgress>? progress, CancellationToken cancellationToken)
    {
        private readonly Dictionary<string, int> _done = [];

        public ResultsFile Results => results;

        public CancellationToken CancellationToken => cancellationToken;

        public EvalCell Keep(EvalCell cell)
        {
            results.Add(cell);
            return cell;
        }

        public void Report(EvalTask task, int total)
        {
            int done = _done[task.Name] = _done.GetValueOrDefault(task.Name) + 1;
            progress?.Report(new EvalProgress(task.Name, done, total));
        }
    }

    /// <summary>One task and seed with the full cache, which is run when something is first compared with it.</summary>
    private sealed class FullTrial(EvalTrial trial, IReadOnlyList<EvalPrompt> prompts, CancellationToken cancellationToken)
    {
        private TrialResult? _result;
        private IReadOnlyList<FutureMass>? _futures;

        public IReadOnlyList<EvalPrompt> Prompts => prompts;

        public TrialResult Result => _result ??= trial.Run(prompts, EvalSetting.Full, full: null, futures: null, cancellationToken);

        public IReadOnlyList<FutureMass> Futures => _futures ??= trial.Foresee(prompts, cancellationToken);

        public EvalCell Cell { get; set; } = null!;

        /// <summary>Frees the logits and what was foreseen; both are computed again if they are needed again.</summary>
        public void Forget() => (_result, _futures) = (null, null);
    }
}

/// <summary>The run tells nothing about caches: the model does not do what is asked with a full cache, or nothing was compressed.</summary>
public sealed class EvalVoidException : Exception
{
    /// <summary>Makes the error with its reason.</summary>
    public EvalVoidException(string reason)
        : base($"E009: eval: {reason}: the run is void")
    {
    }
}
