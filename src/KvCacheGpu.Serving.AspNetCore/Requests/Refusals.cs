namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>Says a scheduler's refusals in the words of requests.</summary>
internal static class Refusals
{
    private static readonly TimeSpan SoonAgain = TimeSpan.FromSeconds(1);

    private static readonly Dictionary<string, string> Names = new(StringComparer.Ordinal)
    {
        [nameof(KvRequest.MaxNewTokens)] = "max_tokens",
        [nameof(KvRequest.Choices)] = "n",
        [nameof(KvRequest.TopLogprobs)] = "logprobs",
        [nameof(KvRequest.StopTexts)] = "stop",
        [nameof(KvRequest.StopTokens)] = "stop",
        [nameof(KvSampling.Temperature)] = "temperature",
        [nameof(KvSampling.TopK)] = "top_k",
        [nameof(KvSampling.TopP)] = "top_p",
        [nameof(KvSampling.MinP)] = "min_p",
        [nameof(KvSampling.RepetitionPenalty)] = "repetition_penalty",
        [nameof(KvSampling.PresencePenalty)] = "presence_penalty",
        [nameof(KvSampling.FrequencyPenalty)] = "frequency_penalty",
        [nameof(KvSampling.LogitBias)] = "logit_bias",
    };

    /// <summary>The error of a refusal.</summary>
    /// <param name="refusal">The refusal.</param>
    /// <param name="prompt">The member that holds the prompt.</param>
    public static ApiError Of(KvRequestRefusedException refusal, string prompt)
    {
        string? name = refusal.Parameter is { } parameter ? Names.GetValueOrDefault(parameter, prompt) : null;
        string message = refusal.Parameter is { } own && name is not null ? refusal.Message.Replace(own, name, StringComparison.Ordinal) : refusal.Message;
        return refusal.Refusal switch
        {
            KvRefusal.QueueFull => ApiError.TooMany(message, "queue_full", SoonAgain),
            KvRefusal.Closed => ApiError.Draining(),
            KvRefusal.TooLong => ApiError.Invalid(message, name, "context_length_exceeded"),
            _ => ApiError.Invalid(message, name, "invalid_value"),
        };
    }
}
