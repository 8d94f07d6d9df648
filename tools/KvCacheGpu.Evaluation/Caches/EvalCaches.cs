using KvCacheGpu.Kernels;

namespace KvCacheGpu.Evaluation;

/// <summary>The names of cache settings, and what they mean: a new format or policy joins here.</summary>
public static class EvalCaches
{
    /// <summary>The policy that drops nothing.</summary>
    public const string NoPolicy = "none";

    private const string Window = "window";

    // Keys' formats by name, with the values' that go with them.
    private static readonly Dictionary<string, (PageFormat Key, PageFormat Value)> _formats =
        Enum.GetValues<PageFormat>().Where(f => f.IsForKeys()).ToDictionary(f => f.Name(), f => (f, ValueWith(f)), StringComparer.Ordinal);

    /// <summary>Names of formats.</summary>
    public static IReadOnlyCollection<string> Formats => _formats.Keys;

    /// <summary>Names of policies.</summary>
    public static IReadOnlyCollection<string> Policies => KvPolicies.Names;

    /// <summary>The configuration of a cache for one sequence.</summary>
    /// <param name="setting">What to measure; its names are known.</param>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="tokens">Tokens that the sequence reaches.</param>
    /// <param name="device">Where it lives.</param>
    public static KvCacheConfig Config(EvalSetting setting, KvGeometry geometry, int tokens, string device)
    {
        ArgumentNullException.ThrowIfNull(setting);
        ArgumentNullException.ThrowIfNull(geometry);
        (PageFormat key, PageFormat value) = _formats[setting.Format];
        KvCacheConfig config = new()
        {
            Device = device,
            MaxTokens = tokens,
            MaxSequences = 1,
            MaxBatchTokens = EvalScale.StepTokens,
            KeyFormat = key,
            ValueFormat = value,
            MemoryBudgetBytes = setting.Budget is { } budget ? (long)(budget * geometry.DenseF16Bytes(tokens)) : null,
        };
        config.Policy = setting.Policy == Window
            ? new WindowPolicy(WindowSize.Within(geometry, config))
            : KvPolicies.TryParse(setting.Policy, out KvPolicy? policy) ? policy : throw new ArgumentException($"expected a policy, got {setting.Policy}", nameof(setting));
        config.DemotionFormats = DemotionsOf(config, geometry);
        return config;
    }

    /// <summary>
    /// What the adaptive policy may shrink pages to: T3 with V3 from full precision and I8, T2 with V2 from T4 and T3; nothing for other policies.
    /// One target alone: a page that shrank on the way may shrink no further when room gets scarcer, and each target takes slabs of its own.
    /// </summary>
    /// <param name="config">Its policy and formats.</param>
    /// <param name="geometry">The model's shape.</param>
    public static IReadOnlyList<KvFormats> DemotionsOf(KvCacheConfig config, KvGeometry geometry)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(geometry);
        KvFormats? target = config.KeyFormat.IsFullPrecision() || config.KeyFormat == PageFormat.I8 ? new(PageFormat.T3, PageFormat.V3)
            : config.KeyFormat is PageFormat.T4 or PageFormat.T3 ? new(PageFormat.T2, PageFormat.V2)
            : null;
        return config.Policy is AdaptivePolicy && target is { } formats && formats.Key.Takes(geometry.KeyWidth) && formats.Value.Takes(geometry.ValueWidth)
            ? [formats]
            : [];
    }

    private static PageFormat ValueWith(PageFormat key) => key switch
    {
        PageFormat.T4 => PageFormat.V4,
        PageFormat.T3 => PageFormat.V3,
        PageFormat.T2 => PageFormat.V2,
        _ => key,
    };

    /// <summary>Whether a format takes fewer bits than F16.</summary>
    public static bool Compresses(string format) => _formats[format].Key.BitsPerElement() + _formats[format].Value.BitsPerElement() < 32;
}
