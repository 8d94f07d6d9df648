namespace KvCacheGpu.Cli;

/// <summary>The document of <c>kvcache run --json</c> with several prompts.</summary>
/// <param name="Model">The model directory's own name.</param>
/// <param name="Device">The device's id, "cpu".</param>
/// <param name="Runs">One for each prompt, in their order.</param>
/// <param name="TokensPerSecond">Tokens of all prompts by the time from the first of them to the last; where each has one only, by all of the time.</param>
/// <param name="Cache">What the cache held at the end: tokens and dense bytes summed over the prompts, pages that they share counted once.</param>
internal sealed record BatchReport(string Model, string Device, IReadOnlyList<BatchRunReport> Runs, double TokensPerSecond, CacheReport Cache);

/// <summary>What became of one prompt.</summary>
/// <param name="PromptTokens">Tokens of the prompt.</param>
/// <param name="Tokens">Tokens generated, one that ends the text among them.</param>
/// <param name="Text">Their text; null where the model has no tokenizer.</param>
internal sealed record BatchRunReport(IReadOnlyList<int> PromptTokens, IReadOnlyList<int> Tokens, string? Text);
