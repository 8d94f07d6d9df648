namespace KvCacheGpu.Serving;

/// <summary>What a <see cref="KvScheduler"/> is asked to generate. Thread safety: it never changes; the scheduler copies its lists.</summary>
public sealed record KvRequest
{
    /// <summary>The prompt's tokens, at least one.</summary>
    public required IReadOnlyList<int> Prompt { get; init; }

    /// <summary>The most tokens of an answer, at least 1. The default value is 256.</summary>
    public int MaxNewTokens { get; init; } = 256;

    /// <summary>Number of answers to the prompt, which is read once for all of them. With a seed, answer i draws by seed + i. The default value is 1.</summary>
    public int Choices { get; init; } = 1;

    /// <summary>How tokens are chosen. The default value takes the most likely one.</summary>
    public KvSampling Sampling { get; init; } = KvSampling.Greedy;

    /// <summary>Tokens that end an answer, as its last token. The default value is null: the model's. Empty: none.</summary>
    public IReadOnlyCollection<int>? StopTokens { get; init; }

    /// <summary>Texts that end an answer, and are not part of it. They take a scheduler with a tokenizer. The default value is empty.</summary>
    public IReadOnlyList<string> StopTexts { get; init; } = [];

    /// <summary>How many of the most likely tokens are told beside each chosen one, 0 to 20. The default value is null: no probabilities are told.</summary>
    public int? TopLogprobs { get; init; }

    /// <summary>Whose request it is: tenants get equal shares, prefixes are shared within one, and quotas of the cache hold. The default value is null, a tenant like any other.</summary>
    public string? Tenant { get; init; }

    /// <summary>A text that keeps this request's prefixes apart from others of its tenant. The default value is null.</summary>
    public string? Salt { get; init; }

    /// <summary>Requests of a higher priority go first, and take the places of others if there is no room. The default value is 0.</summary>
    public int Priority { get; init; }

    /// <summary>Time from submission within which the request must end; what has come by then stands. The default value is null: no limit.</summary>
    public TimeSpan? Deadline { get; init; }
}
