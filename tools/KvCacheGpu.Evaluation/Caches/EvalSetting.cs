using System.Globalization;

namespace KvCacheGpu.Evaluation;

/// <summary>A cache to measure, by names (<see cref="EvalCaches"/>).</summary>
/// <param name="Format">Format of sealed pages: "i8".</param>
/// <param name="Policy">Policy that drops pages: "window". "none" drops nothing and has no budget.</param>
/// <param name="Budget">Share of the dense F16 bytes that the whole cache may take; null for no limit.</param>
public sealed record EvalSetting(string Format, string Policy, double? Budget)
{
    /// <summary>The cache with which all others are compared: F16, and nothing dropped.</summary>
    public static EvalSetting Full { get; } = new("f16", EvalCaches.NoPolicy, null);

    /// <summary>All combinations of formats, policies and budgets. Without a policy there is only one, because no budget could bind.</summary>
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
