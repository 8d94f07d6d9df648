using System.Globalization;

namespace KvCacheGpu.Evaluation;

/// <summary>A kind of work whose answers are known. Pure: the same text, scale and seed give the same prompts.</summary>
public abstract class EvalTask
{
    /// <summary>Full-cache accuracy below which a task does not measure caches: the model itself cannot do it.</summary>
    public const double LeastAccuracy = .9;

    /// <summary>All tasks, by name, in the order of reports.</summary>
    public static IReadOnlyList<EvalTask> All { get; } =
    [
        new RecallTask(), new AwareRecallTask(), new NeedleTask(), new CopyTask(), new TwoTurnTask(), new InstructionTask(), new PerplexityTask(),
    ];

    /// <summary>The task that a model must do through the full cache for a run to say anything.</summary>
    public static EvalTask Gate => All[0];

    /// <summary>Its name: "recall".</summary>
    public abstract string Name { get; }

    /// <summary>What it asks for, in one line.</summary>
    public abstract string Summary { get; }

    /// <summary>True if answers are right or wrong; else only how likely they were counts.</summary>
    public virtual bool HasAnswers => true;

    /// <summary>Makes the prompts, one per sequence.</summary>
    /// <param name="text">What they are made of.</param>
    /// <param name="scale">How large.</param>
    /// <param name="seed">Another seed, another prompt.</param>
    /// <exception cref="ArgumentException">The text or the tokenizer does not suffice.</exception>
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
