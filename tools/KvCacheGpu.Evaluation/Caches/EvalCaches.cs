using KvCacheGpu.Kernels;

namespace KvCacheGpu.Evaluation;

/// <summary>The names of cache settings, and what they mean: a new format or policy joins here.</summary>
public static class EvalCaches
{
    /// <summary>The policy that drops nothing.</summary>
    public const string NoPolicy = "none";

    private static readonly Dictionary<string, (PageFormat Key, PageFormat Value)> _formats = new(StringComparer.Ordinal)
    {
        ["f32"] = (PageFormat.F32, PageFormat.F32),
        ["f16"] = (PageFormat.F16, PageFormat.F16),
        ["bf16"] = (PageFormat.BF16, PageFormat.BF16),
        ["i8"] = (PageFormat.I8, PageFormat.I8),
    };

    // What a policy is for a geometry and the rest of a configuration, its budget among it.
    private static readonly Dictionary<string, Func<KvGeometry, KvCacheConfig, KvPolicy?>> _policies = new(StringComparer.Ordinal)
    {
        [NoPolicy] = (_, _) => null,
        ["window"] = (geometry, config) => new WindowPolicy(WindowSize.Within(geometry, config)),
    };

    /// <summary>Names of formats.</summary>
    public static IReadOnlyCollection<string> Formats => _formats.Keys;

    /// <summary>Names of policies.</summary>
    public static IReadOnlyCollection<string> Policies => _policies.Keys;

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
        config.Policy = _policies[setting.Policy](geometry, config);
        return config;
    }

    /// <summary>Whether a format takes fewer bits than F16.</summary>
    public static bool Compresses(string format) => _formats[format].Key.BitsPerElement() + _formats[format].Value.BitsPerElement() < 32;
}
