using System.Globalization;

namespace KvCacheGpu.Evaluation;

/// <summary>A cache to be measured, by names (<see cref="EvalCaches"/>).</summary>
/// <param name="Format">Format of sealed pages: "i8".</param>
/// <param name="Policy">What is dropped: "window". "none" drops nothing and has no budget.</param>
/// <param name="Budget">Share of the dense F16 bytes that everything may take; null: what it takes.</param>
public sealed record EvalSetting(string Format, string Policy, double? Budget)
{
    /// <summary>What everything is compared with: F16, nothing dropped.</summary>
    public static EvalSetting Full { get; } = new("f16", EvalCaches.NoPolicy, null);

    /// <summary>Formats x policies x budgets; without a policy there is nothing that a budget could bind.</summary>
    public static IReadOnlyList<EvalSetting> Grid(IEnumerable<string> formats, IReadOnlyList<string> policies, IReadOnlyList<double> budgets)
    {
        ArgumentNullException.ThrowIfNull(formats);
        return
        [
            .. formats.SelectMany(format => policies.SelectMany(policy => policy == EvalCaches.NoPolicy
                ? [new EvalSetting(format, policy, null)]
                : budgets.Select(budget => new EvalSetting(format, policy, budget)))).Distinct(),
        ];
    }

    /// <inheritdoc/>
    public override string ToString() =>
        Budget is { } budget ? string.Create(CultureInfo.InvariantCulture, $"{Format} {Policy} {100 * budget:0.###} %") : $"{Format} {Policy}";
}
