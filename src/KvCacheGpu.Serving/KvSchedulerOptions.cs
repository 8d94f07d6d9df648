namespace KvCacheGpu.Serving;

/// <summary>Where the pages of an answer go that loses its place to others.</summary>
public enum KvPreemption
{
    /// <summary>To host memory, from which they come back bit for bit; where that has no room (<see cref="KvCacheOptions.SwapBudgetBytes"/>), they are computed again.</summary>
    Swap,

    /// <summary>Nowhere: they are computed again, but for those that prefix reuse still finds.</summary>
    Recompute,
}

/// <summary>How a <see cref="KvScheduler"/> works. Thread safety: as that of any class with setters; the scheduler copies it.</summary>
public sealed record KvSchedulerOptions
{
    /// <summary>
    /// The most answers that run at once, at least 1. The default value is null: as many as the cache takes sequences (<see cref="KvCacheOptions.MaxSequences"/>) and a step tokens.
    /// </summary>
    public int? MaxConcurrency { get; init; }

    /// <summary>The most requests that wait; one more is refused. The default value is 1024.</summary>
    public int MaxWaiting { get; init; } = 1024;

    /// <summary>
    /// The most tokens of a step. Answers that run take one each, prompts share the rest, so that long prompts do not hold the others up. The default value is null: what the
    /// model and the cache take.
    /// </summary>
    public int? StepTokens { get; init; }

    /// <summary>
    /// The part of the tokens that a request may still generate for which room must be free when it is admitted, 0 to 1. With 1 no answer is ever taken back for
    /// another of its priority, and fewer run at once. The default value is null: what requests used lately, beginning with 1.
    /// </summary>
    public double? ReservedPart { get; init; }

    /// <summary>
    /// How often an answer may lose its place to others. After that it is admitted only when all of its room is free, and keeps it. At least 0; the default value is 3.
    /// </summary>
    public int MaxPreemptions { get; init; } = 3;

    /// <summary>Where the pages of an answer go that loses its place. The default value is <see cref="KvPreemption.Swap"/>.</summary>
    public KvPreemption Preemption { get; init; } = KvPreemption.Swap;

    /// <summary>
    /// The most tokens that are guessed ahead in each step, where the last tokens came before in the same sequence (prompt look-up; Saxena 2023). Answers are the same with
    /// and without. At most <see cref="KvCacheOptions.ExactRollbackTokens"/>. The default value is 0: none.
    /// </summary>
    public int DraftTokens { get; init; }

    /// <summary>Shares of tenants: one of weight 2 gets twice the tokens of one of weight 1 while both have requests waiting. Above 0; those not named have 1. The default value is null.</summary>
    public IReadOnlyDictionary<string, double>? TenantWeights { get; init; }

    /// <summary>Turns tokens to text, for <see cref="KvPiece.Text"/> and <see cref="KvRequest.StopTexts"/>. The default value is null: answers are tokens only.</summary>
    public IKvTokenizer? Tokenizer { get; init; }

    /// <summary>The clock of deadlines and measurements. The default value is the system's.</summary>
    public TimeProvider Clock { get; init; } = TimeProvider.System;
}
