using System.Globalization;

namespace KvCacheGpu.Evaluation;

/// <summary>A cache to measure, by names (<see cref="EvalCaches"/>).</summary>
/// <param name="Format">Format of sealed pages: "i8", or those of keys and values: "i8+v4".</param>
/// <param name="Policy">Policy that drops pages: "window". "none" drops nothing and has no budget.</param>
/// <param name="Budget">Share of the dense F16 bytes that the cache may take; null for no limit.</param>
/// <param name="AboveEmpty">
/// True if the budget is what the cache may take beyond its bytes while it is empty, so that tables and working memory do not swallow a small budget of a small
/// model. The default value is false: the budget is for the whole cache.
/// </param>
public sealed record EvalSetting(string Format, string Policy, double? Budget, bool AboveEmpty = false)
{
    /// <summary>The cache with which all others are compared: F32, in which keys and values are as the model computes them, and nothing dropped.</summary>
    public static EvalSetting Full { get; } = new("f32", EvalCaches.NoPolicy, null);

    /// <summary>All combinations of formats, policies and budgets. Without a policy there is only one, because no budget could bind.</summary>
    public static IReadOnlyList<EvalSetting> Grid(
        IEnumerable<string> formats, IReadOnlyList<string> policies, IReadOnlyList<double> budgets, bool aboveEmpty = false)
    {
        ArgumentNullException.ThrowIfNull(formats);
        return
        [
            .. formats.SelectMany(format => policies.SelectMany(policy => policy == EvalCaches.NoPolicy
                ? [new EvalSetting(format, policy, null)]
                : budgets.Select(budget => new EvalSetting(format, policy, budget, aboveEmpty)))).Distinct(),
        ];
    }

    /// <inheritdoc/>
    public override string ToString() =>
        Budget is { } budget
            ? string.Create(CultureInfo.InvariantCulture, $"{Format} {Policy} {100 * budget:0.###} %{(AboveEmpty ? " above empty" : string.Empty)}")
            : $"{Format} {Policy}";
}
