using System.Globalization;

namespace KvCacheGpu.Evaluation;

/// <summary>The names of cache settings and their meaning. A new format or policy is added here.</summary>
public static class EvalCaches
{
    /// <summary>The policy that drops nothing.</summary>
    public const string NoPolicy = "none";

    /// <summary>The policy that knows the attention to come: the bound of all policies that only drop. Only evaluations have this name.</summary>
    public const string Oracle = "oracle";

    private const string Window = "window";

    // Formats of keys by name, with the formats of values that go with them.
    private static readonly Dictionary<string, (PageFormat Key, PageFormat Value)> _formats =
        Enum.GetValues<PageFormat>().Where(f => f.IsForKeys()).ToDictionary(f => f.Name(), f => (f, ValueWith(f)), StringComparer.Ordinal);

    /// <summary>Names of formats.</summary>
    public static IReadOnlyCollection<string> Formats => _formats.Keys;

    /// <summary>Names of policies.</summary>
    public static IReadOnlyCollection<string> Policies { get; } = [.. KvPolicies.Names, Oracle];

    /// <summary>The configuration of a cache for one sequence.</summary>
    /// <param name="setting">The cache to measure, whose names are known.</param>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="tokens">Tokens that the sequence reaches.</param>
    /// <param name="device">Where it lives.</param>
    /// <param name="future">What "oracle" knows. The default value is null, with which there is none.</param>
    /// <exception cref="ArgumentException">The policy is unknown, or its future is.</exception>
    public static KvCacheOptions Config(EvalSetting setting, KvGeometry geometry, int tokens, string device, KvFutureMass? future = null)
    {
        ArgumentNullException.ThrowIfNull(setting);
        ArgumentNullException.ThrowIfNull(geometry);
        (PageFormat key, PageFormat value) = _formats[setting.Format];
        KvCacheOptions config = new()
        {
            Device = device,
            MaxTokens = tokens,
            MaxSequences = 1,
            MaxBatchTokens = EvalScale.StepTokens,
            KeyFormat = key,
            ValueFormat = value,
            MemoryBudgetBytes = setting.Budget is { } budget ? (long)(budget * geometry.DenseF16Bytes(tokens)) : null,
        };
        config.Policy = setting.Policy switch
        {
            Window => new WindowPolicy(WindowSize.Within(geometry, config)),
            Oracle => new ForesightPolicy(future ?? throw new ArgumentException("expected a future for the oracle, got none", nameof(future))),
            _ => KvPolicies.TryParse(setting.Policy, out KvPolicy? policy) ? policy : throw new ArgumentException($"expected a policy, got {setting.Policy}", nameof(setting)),
        };
        config.DemotionFormats = DemotionsOf(config, geometry);
        return config;
    }

    /// <summary>
    /// The formats to which the adaptive policy may demote pages: T3 with V3 from full precision and I8, T2 with V2 from T4 and T3; none for other policies.
    /// There is only one target, because a demoted page cannot be demoted again when room gets scarcer, and each target takes slabs of its own.
    /// </summary>
    /// <param name="config">Its policy and formats.</param>
    /// <param name="geometry">The model's shape.</param>
    public static IReadOnlyList<KvFormats> DemotionsOf(KvCacheOptions config, KvGeometry geometry)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(geometry);
        return config.Policy is AdaptivePolicy && DemotionOf(config.KeyFormat) is { } formats
            && formats.Key.Takes(geometry.KeyWidth) && formats.Value.Takes(geometry.ValueWidth)
            ? [formats]
            : [];
    }

    /// <summary>The meaning of a setting's name, without its budget and whatever depends on the model's shape. It is part of a result's identity.</summary>
    internal static string Meaning(EvalSetting setting)
    {
        (PageFormat key, PageFormat value) = _formats[setting.Format];
        KvCacheOptions standard = new();
        return string.Create(
            CultureInfo.InvariantCulture,
            $"{key}/{value} -> {DemotionOf(key)} {standard.Watermark:R} {standard.PlanEvery} {standard.ScoreEvery} {standard.MergePages}");
    }

    private static KvFormats? DemotionOf(PageFormat key) => key.IsFullPrecision() || key == PageFormat.I8 ? new(PageFormat.T3, PageFormat.V3)
        : key is PageFormat.T4 or PageFormat.T3 ? new(PageFormat.T2, PageFormat.V2)
        : null;

    private static PageFormat ValueWith(PageFormat key) => key switch
    {
        PageFormat.T4 => PageFormat.V4,
        PageFormat.T3 => PageFormat.V3,
        PageFormat.T2 => PageFormat.V2,
        _ => key,
    };

    /// <summary>True if a format takes fewer bits than F16.</summary>
    public static bool Compresses(string format) => _formats[format].Key.BitsPerElement() + _formats[format].Value.BitsPerElement() < 32;
}
