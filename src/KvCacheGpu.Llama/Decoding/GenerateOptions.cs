using KvCacheGpu.Serving;

namespace KvCacheGpu.Llama;

/// <summary>Settings of generating text. Thread safety: it is set up by one thread.</summary>
public sealed class GenerateOptions
{
    /// <summary>The most tokens to generate. The default value is 64.</summary>
    public int MaxNewTokens { get; set; } = 64;

    /// <summary>How tokens are chosen. The default value takes the most likely one, which is exactly reproducible.</summary>
    public KvSampling Sampling { get; set; } = KvSampling.Greedy;

    /// <summary>Tokens that end the text; such a token is yielded last. The default value is null: those of the model's config.json.</summary>
    public IReadOnlyCollection<int>? StopTokens { get; set; }

    /// <summary>Receives the number of the prompt's tokens that are in the cache, after each step. The default value is null.</summary>
    public IProgress<int>? PromptProgress { get; set; }
}
