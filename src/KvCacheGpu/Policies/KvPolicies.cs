using System.Diagnostics.CodeAnalysis;

namespace KvCacheGpu;

/// <summary>Policies by name, as command lines and configuration files write them.</summary>
public static class KvPolicies
{
    private const string Wrapper = "adakv";

    /// <summary>Number of newest tokens that "window" keeps.</summary>
    public const int WindowTokens = 1024;

    /// <summary>The names that <see cref="TryParse"/> takes. "adakv" wraps h2o; "adakv:NAME" wraps any other scorer, as in "adakv:snapkv".</summary>
    public static IReadOnlyList<string> Names { get; } =
    [
        "none", "window", "lru", "lfu", "h2o", "tova", "snapkv", "keydiff", "expected-attention", "dropkv", Wrapper, "random", "adaptive",
    ];

    /// <summary>Makes the policy that a name stands for, with its default values.</summary>
    /// <param name="name">One of <see cref="Names"/>, or "adakv:NAME"; upper and lower case are the same.</param>
    /// <param name="policy">The policy; null for "none", which keeps everything, and for an unknown name.</param>
    /// <returns>True if the name is known.</returns>
    public static bool TryParse([NotNullWhen(true)] string? name, out KvPolicy? policy)
    {
        string lower = name?.ToLowerInvariant() ?? "";
        policy = lower switch
        {
            "window" => new WindowPolicy(WindowTokens),
            "adaptive" => new AdaptivePolicy(),
            Wrapper => new AdaKvPolicy(new H2oPolicy()),
            _ when lower.StartsWith(Wrapper + ":", StringComparison.Ordinal) =>
                Scorer(lower[(Wrapper.Length + 1)..]) is { } inner ? new AdaKvPolicy(inner) : null,
            _ => Scorer(lower),
        };
        return policy is not null || lower == "none";
    }

    private static RankedPolicy? Scorer(string name) => name switch
    {
        "lru" => new LruPolicy(),
        "lfu" => new LfuPolicy(),
        "h2o" => new H2oPolicy(),
        "tova" => new TovaPolicy(),
        "snapkv" => new SnapKvPolicy(),
        "keydiff" => new KeyDiffPolicy(),
        "expected-attention" => new ExpectedAttentionPolicy(),
        "dropkv" => new DropKvPolicy(),
        "random" => new RandomPolicy(),
        _ => null,
    };
}
