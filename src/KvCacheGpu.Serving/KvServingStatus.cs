namespace KvCacheGpu.Serving;

/// <summary>What an answer is doing.</summary>
public enum KvAnswerState
{
    /// <summary>It waits for a place.</summary>
    Waiting,

    /// <summary>Its prompt is being read.</summary>
    Reading,

    /// <summary>Its tokens are being generated.</summary>
    Generating,

    /// <summary>It lost its place, and waits for another; its pages lie in host memory, or are computed again.</summary>
    Preempted,
}

/// <summary>One answer of a scheduler. Thread safety: it never changes.</summary>
/// <param name="Id">The request's <see cref="KvGeneration.Id"/>.</param>
/// <param name="Choice">Which of its answers, counted from 0.</param>
/// <param name="Tenant">Whose it is.</param>
/// <param name="Priority">The request's priority.</param>
/// <param name="State">What it is doing.</param>
/// <param name="PromptTokens">Tokens of the prompt.</param>
/// <param name="NewTokens">Tokens that were generated.</param>
/// <param name="ComputedTokens">Tokens whose keys and values lie in the cache.</param>
public sealed record KvAnswerStatus(
    long Id, int Choice, string? Tenant, int Priority, KvAnswerState State, int PromptTokens, int NewTokens, int ComputedTokens);

/// <summary>Percentiles of the last 1,024 measurements. Thread safety: it never changes.</summary>
/// <param name="Count">Measurements that they are taken of.</param>
/// <param name="P50">Half of them took at most this long.</param>
/// <param name="P95">95 of 100 took at most this long.</param>
public readonly record struct KvPercentiles(int Count, TimeSpan P50, TimeSpan P95);

/// <summary>What a scheduler does at one moment, between two steps. Thread safety: it never changes.</summary>
public sealed record KvServingStatus
{
    /// <summary>Answers that run, and after them those that wait.</summary>
    public required IReadOnlyList<KvAnswerStatus> Answers { get; init; }

    /// <summary>Requests that were taken since the start.</summary>
    public required long Requests { get; init; }

    /// <summary>Requests that have ended.</summary>
    public required long Ended { get; init; }

    /// <summary>Steps since the start.</summary>
    public required long Steps { get; init; }

    /// <summary>Tokens of prompts that were computed.</summary>
    public required long PromptTokens { get; init; }

    /// <summary>Tokens of prompts that the cache or its tiers had.</summary>
    public required long ReusedTokens { get; init; }

    /// <summary>Tokens that were generated.</summary>
    public required long NewTokens { get; init; }

    /// <summary>How often answers lost their places.</summary>
    public required long Preemptions { get; init; }

    /// <summary>Tokens generated a second, over the last ten seconds.</summary>
    public required double TokensPerSecond { get; init; }

    /// <summary>Time from submission to the first token.</summary>
    public required KvPercentiles TimeToFirstToken { get; init; }

    /// <summary>Time from one token of an answer to its next.</summary>
    public required KvPercentiles TimeBetweenTokens { get; init; }
}
