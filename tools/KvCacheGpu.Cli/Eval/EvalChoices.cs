using System.Globalization;
using KvCacheGpu.Evaluation;

namespace KvCacheGpu.Cli;

/// <summary>The choices of <c>kvcache eval</c>, with its lists as texts.</summary>
/// <param name="Tasks">--tasks.</param>
/// <param name="Formats">--formats.</param>
/// <param name="Policies">--policies.</param>
/// <param name="Budgets">--budgets.</param>
/// <param name="AboveEmpty">--budgets-above-empty.</param>
/// <param name="Seeds">--seeds.</param>
/// <param name="FirstSeed">--first-seed.</param>
/// <param name="Quick">--quick.</param>
internal sealed record EvalChoices(string? Tasks, string? Formats, string? Policies, string? Budgets, bool AboveEmpty, int? Seeds, int? FirstSeed, bool Quick)
{
    /// <summary>Number of seeds if none is given.</summary>
    public const int DefaultSeeds = 5;

    private const int QuickSeeds = 2;
    private const string DefaultFormats = "f16,i8";
    private const string DefaultPolicies = "none,window";
    private const string DefaultBudgets = "1,.75,.5,.25,.1";
    private const string QuickBudgets = ".5";

    private static string ExpectedFormats => $"{string.Join(", ", EvalCaches.Formats)}, or i8 with the other half of a pair (i8+v4, t4+i8)";

    /// <summary>Reads the lists.</summary>
    /// <exception cref="UsageException">A name or a number is not valid.</exception>
    public EvalPlan Plan(string device)
    {
        string[] tasks = Names("--tasks", Tasks, string.Join(',', EvalTask.All.Select(t => t.Name)), [.. EvalTask.All.Select(t => t.Name)]);
        string[] formats = [.. Split("--formats", Formats ?? DefaultFormats, ExpectedFormats).Select(Format).Distinct()];
        string[] policies = Names("--policies", Policies, DefaultPolicies, EvalCaches.Policies, EvalCaches.IsPolicy);
        double[] budgets = [.. Split("--budgets", Budgets ?? (Quick ? QuickBudgets : DefaultBudgets), "shares of the dense F16 bytes").Select(Budget)];
        int seeds = Seeds ?? (Quick ? QuickSeeds : DefaultSeeds);
        if (FirstSeed > int.MaxValue - seeds + 1)
        {
            throw new UsageException("--first-seed", $"at most {int.MaxValue - seeds + 1}, with {seeds} seeds", $"{FirstSeed}");
        }

        return new EvalPlan(
            [.. EvalTask.All.Where(t => tasks.Contains(t.Name))],
            EvalSetting.Grid(formats, policies, budgets, AboveEmpty),
            seeds,
            Quick ? EvalScale.Quick : EvalScale.Full,
            device,
            FirstSeed ?? 0);
    }

    /// <summary>Reads --families.</summary>
    /// <exception cref="UsageException">A name is not valid.</exception>
    public static IReadOnlyList<SyntheticFamily> Families(string? text)
    {
        SyntheticFamily[] all = Enum.GetValues<SyntheticFamily>();
        string[] names = Names("--families", text, SyntheticReport.Name(SyntheticFamily.Mixed), [.. all.Select(SyntheticReport.Name)]);
        return [.. all.Where(family => names.Contains(SyntheticReport.Name(family)))];
    }

    private static string[] Names(string option, string? text, string standard, IReadOnlyCollection<string> known) =>
        Names(option, text, standard, known, known.Contains);

    private static string[] Names(string option, string? text, string standard, IReadOnlyCollection<string> known, Func<string, bool> isKnown)
    {
        string expected = string.Join(", ", known);
        string[] names = Split(option, text ?? standard, expected);
        return Array.Find(names, name => !isKnown(name)) is { } unknown
            ? throw new UsageException(option, expected, $"\"{unknown}\"")
            : names;
    }

    private static string[] Split(string option, string text, string expected)
    {
        string[] parts = [.. text.Split(',', StringSplitOptions.TrimEntries).Distinct()];
        return parts.Contains(string.Empty) ? throw new UsageException(option, expected, $"\"{text}\"") : parts;
    }

    private static string Format(string text) => EvalCaches.FormatNamed(text) ?? throw new UsageException("--formats", ExpectedFormats, $"\"{text}\"");

    private static double Budget(string text) =>
        double.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double budget) && budget is > 0 and <= 1
            ? budget
            : throw new UsageException("--budgets", "shares of the dense F16 bytes, above 0 and at most 1", $"\"{text}\"");
}
