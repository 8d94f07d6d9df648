namespace KvCacheGpu.Serving.AspNetCore;

/// <summary>A request that was read: prompts in tokens, and how they are continued.</summary>
/// <param name="Settings">What chat and completions have in common.</param>
/// <param name="Prompts">The prompts' tokens.</param>
/// <param name="MaxNewTokens">The most tokens of an answer; null for what is left of the context.</param>
/// <param name="TopLogprobs">How many likely tokens are told beside each; null for none at all.</param>
internal sealed record ParsedRequest(GenerationSettings Settings, IReadOnlyList<int[]> Prompts, int? MaxNewTokens, int? TopLogprobs)
{
    /// <summary>The requests to the scheduler, one for each prompt.</summary>
    /// <param name="tenant">Whose they are.</param>
    /// <param name="options">Limits.</param>
    /// <param name="mostTokens">The most tokens of a prompt and its answer.</param>
    /// <param name="field">The member that holds the prompt, as requests name it.</param>
    public IEnumerable<KvRequest> For(string? tenant, KvServerOptions options, int mostTokens, string field)
    {
        foreach (int[] prompt in Prompts)
        {
            int most = Math.Min(options.MaxPromptTokens ?? int.MaxValue, mostTokens - 1);
            if (prompt.Length > most)
            {
                throw ApiError.Invalid($"{field}: expected at most {most} tokens, got {prompt.Length}", field, "context_length_exceeded");
            }

            yield return new KvRequest
            {
                Prompt = prompt,
                MaxNewTokens = MaxNewTokens ?? mostTokens - prompt.Length,
                Choices = Settings.Choices,
                Sampling = Settings.Sampling,
                StopTexts = Settings.Stops,
                TopLogprobs = TopLogprobs,
                Tenant = tenant,
                Priority = Settings.Priority,
                Deadline = options.Deadline,
            };
        }
    }
}
