using System.Text.Json.Serialization;

namespace KvCacheGpu.Evaluation;

/// <summary>What one cache made of one task with one seed: a line of the results file.</summary>
public sealed record EvalCell
{
    /// <summary>What the result is of (<see cref="EvalIdentity"/>).</summary>
    public required string Id { get; init; }

    /// <summary>The task.</summary>
    public required string Task { get; init; }

    /// <summary>The prompts' seed.</summary>
    public required int Seed { get; init; }

    /// <summary>Format of sealed pages.</summary>
    public required string Format { get; init; }

    /// <summary>The policy.</summary>
    public required string Policy { get; init; }

    /// <summary>Share of the dense F16 bytes, or null.</summary>
    public double? Budget { get; init; }

    /// <summary>Why the cache could not be made or filled; null where it could. Then all that follows is 0.</summary>
    public string? Refused { get; init; }

    /// <summary>Tokens that were to be foreseen.</summary>
    public int Scored { get; init; }

    /// <summary>Share that was the likeliest.</summary>
    public double Accuracy { get; init; }

    /// <summary>Mean -ln of their probability.</summary>
    public double Nll { get; init; }

    /// <summary>The same less that through the full cache.</summary>
    public double DeltaNll { get; init; }

    /// <summary>Mean divergence of the full cache's next-token distribution from this one, in nats.</summary>
    public double Kl { get; init; }

    /// <summary>Share at which the likeliest token is the full cache's.</summary>
    public double Agreement { get; init; }

    /// <summary>The most bytes that were allocated after any step: pages, tables, bookkeeping, working memory; summed over sequences.</summary>
    public long AllocatedBytes { get; init; }

    /// <summary>Bytes of pages at the end, summed over sequences.</summary>
    public long PageBytes { get; init; }

    /// <summary>Bytes that were allowed, summed over sequences; null without a budget.</summary>
    public long? BudgetBytes { get; init; }

    /// <summary>Bytes of dense F16 caches of the sequences.</summary>
    public long DenseBytes { get; init; }

    /// <summary>Tokens dropped, mean over layers and heads, summed over sequences.</summary>
    public double EvictedTokens { get; init; }

    /// <summary>Pages at the end that may still be written.</summary>
    public int OpenPages { get; init; }

    /// <summary>Pages at the end that never change again.</summary>
    public int SealedPages { get; init; }

    /// <summary>Tokens read per second.</summary>
    public double ReadTokensPerSecond { get; init; }

    /// <summary>Tokens written one by one per second; null where none were.</summary>
    public double? WriteTokensPerSecond { get; init; }

    /// <summary>Accuracy by label, where a task tells answers apart.</summary>
    public IReadOnlyDictionary<string, double> Labels { get; init; } = new Dictionary<string, double>();

    /// <summary>The cache.</summary>
    [JsonIgnore]
    public EvalSetting Setting => new(Format, Policy, Budget);
}
