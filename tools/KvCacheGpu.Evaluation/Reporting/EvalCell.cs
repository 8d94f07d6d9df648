using System.Text.Json.Serialization;

namespace KvCacheGpu.Evaluation;

/// <summary>The result of one cache on one task with one seed: a line of the results file.</summary>
public sealed record EvalCell
{
    /// <summary>The identity of the result (<see cref="EvalIdentity"/>).</summary>
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

    /// <summary>True if the budget is what the cache may take beyond its bytes while it is empty.</summary>
    public bool AboveEmpty { get; init; }

    /// <summary>The reason why the cache could not be made or filled, in which case all numbers are 0; null if it could.</summary>
    public string? Refused { get; init; }

    /// <summary>Number of tokens to predict.</summary>
    public int Scored { get; init; }

    /// <summary>Share of tokens that were the most likely ones.</summary>
    public double Accuracy { get; init; }

    /// <summary>Mean of -ln of their probabilities.</summary>
    public double Nll { get; init; }

    /// <summary><see cref="Nll"/> minus that of the full cache.</summary>
    public double DeltaNll { get; init; }

    /// <summary>Mean divergence of the full cache's next-token distribution from this one, in nats.</summary>
    public double Kl { get; init; }

    /// <summary>Share of tokens for which the most likely token is that of the full cache.</summary>
    public double Agreement { get; init; }

    /// <summary>The most bytes that were allocated after any step: pages, tables, bookkeeping, working memory; summed over sequences.</summary>
    public long AllocatedBytes { get; init; }

    /// <summary>Bytes of pages at the end, summed over sequences.</summary>
    public long PageBytes { get; init; }

    /// <summary>Bytes that were allowed, summed over sequences; null without a budget.</summary>
    public long? BudgetBytes { get; init; }

    /// <summary>Bytes of dense F16 caches of the sequences.</summary>
    public long DenseBytes { get; init; }

    /// <summary>Number of dropped tokens, mean over layers and heads, summed over sequences.</summary>
    public double EvictedTokens { get; init; }

    /// <summary>Number of open pages at the end.</summary>
    public int OpenPages { get; init; }

    /// <summary>Number of sealed pages at the end.</summary>
    public int SealedPages { get; init; }

    /// <summary>Tokens read per second.</summary>
    public double ReadTokensPerSecond { get; init; }

    /// <summary>Tokens written one by one per second; null if none were written.</summary>
    public double? WriteTokensPerSecond { get; init; }

    /// <summary>Accuracy by label, if a task groups its answers.</summary>
    public IReadOnlyDictionary<string, double> Labels { get; init; } = new Dictionary<string, double>();

    /// <summary>The cache.</summary>
    [JsonIgnore]
    public EvalSetting Setting => new(Format, Policy, Budget, AboveEmpty);
}
