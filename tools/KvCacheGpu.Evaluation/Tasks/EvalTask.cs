using System.Globalization;

namespace KvCacheGpu.Evaluation;

/// <summary>A kind of work whose answers are known. It is pure: the same text, scale and seed give the same prompts.</summary>
public abstract class EvalTask
{
    /// <summary>The accuracy with the full cache below which a task does not measure caches, because the model itself cannot do it.</summary>
    public const double LeastAccuracy = .9;

    /// <summary>All tasks, by name, in the order of reports.</summary>
    public static IReadOnlyList<EvalTask> All { get; } =
    [
        new RecallTask(), new AwareRecallTask(), new NeedleTask(), new CopyTask(), new TwoTurnTask(), new InstructionTask(), new PerplexityTask(),
        new TextTask(), new PackedTask(), new RepeatTask(),
    ];

    /// <summary>The task that a model must be able to do with the full cache. Otherwise a run with any task that has answers is void.</summary>
    public static EvalTask Gate => All[0];

    /// <summary>Its name: "recall".</summary>
    public abstract string Name { get; }

    /// <summary>A summary of the task in one line.</summary>
    public abstract string Summary { get; }

    /// <summary>True if answers are right or wrong; false if only their probability counts.</summary>
    public virtual bool HasAnswers => true;

    /// <summary>True if the prompts state facts, for which a tokenizer needs words of one token (<see cref="EvalText.FactsRefusal"/>).</summary>
    public virtual bool NeedsFacts => HasAnswers;

    /// <summary>Makes the prompts, one per sequence.</summary>
    /// <param name="text">The text from which they are made.</param>
    /// <param name="scale">The size of the task.</param>
    /// <param name="seed">The seed; another one gives another prompt.</param>
    /// <exception cref="ArgumentException">The text is too short.</exception>
    /// <exception cref="InvalidOperationException">The task needs facts, and the tokenizer has too few words for them.</exception>
    public IReadOnlyList<EvalPrompt> Prompts(EvalText text, EvalScale scale, int seed)
    {
        ArgumentNullException.ThrowIfNull(text);
        ArgumentNullException.ThrowIfNull(scale);
        return Build(text, scale, new Random(seed));
    }

    private protected abstract IReadOnlyList<EvalPrompt> Build(EvalText text, EvalScale scale, Random random);

    private protected static EvalPart Ask(EvalText text, (int Key, int Value) fact, string label = "") =>
        new(EvalAct.Probe, [.. text.Language.Question(fact.Key), fact.Value], 1, label);

    private protected static int[] Say(EvalText text, (int Key, int Value) fact) => text.Language.Sentence(fact.Key, fact.Value);

    private protected static (double, int[])[] Strew(EvalText text, Random random, IEnumerable<(int Key, int Value)> facts) =>
        [.. facts.Select(fact => (random.NextDouble(), Say(text, fact)))];

    private protected static string Percent(double share) => (100 * share).ToString("F0", CultureInfo.InvariantCulture) + " %";
}
