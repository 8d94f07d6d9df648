namespace KvCacheGpu.Llama;

/// <summary>Settings of generating text.</summary>
public sealed class GenerateOptions
{
    /// <summary>The most tokens to generate. The default value is 64.</summary>
    public int MaxNewTokens { get; set; } = 64;

    /// <summary>Temperature of the draws; with 0 the most likely token is taken, which is exactly reproducible. The default value is 0.</summary>
    public double Temperature { get; set; }

    /// <summary>Seed of the draws, if the temperature is above 0. The default value is 0.</summary>
    public int Seed { get; set; }

    /// <summary>Tokens that end the text; such a token is yielded last. The default value is null: those of the model's config.json.</summary>
    public IReadOnlyCollection<int>? StopTokens { get; set; }

    /// <summary>Receives the number of the prompt's tokens that are in the cache, after each step. The default value is null.</summary>
    public IProgress<int>? PromptProgress { get; set; }
}
