namespace KvCacheGpu.Serving;

/// <summary>
/// How tokens are chosen from logits. In this order: <see cref="LogitBias"/>, penalties, <see cref="Temperature"/>, then <see cref="TopK"/>,
/// <see cref="TopP"/> and <see cref="MinP"/>, each over what the one before has left. Thread safety: it never changes.
/// </summary>
public sealed record KvSampling
{
    /// <summary>The most likely token, always.</summary>
    public static KvSampling Greedy { get; } = new();

    /// <summary>0 takes the largest logit, of several equal ones the lowest id; above 0, a token is drawn from the softmax of logits / temperature. The default value is 0.</summary>
    public double Temperature { get; init; }

    /// <summary>Draws from that many of the most likely tokens. The default value is 0: from all.</summary>
    public int TopK { get; init; }

    /// <summary>Draws from the fewest of the most likely tokens whose probabilities sum to this at least, above 0 and at most 1. The default value is 1: from all. (Holtzman et al. 2020.)</summary>
    public double TopP { get; init; } = 1;

    /// <summary>Draws from tokens of at least this part of the most likely one's probability, 0 to 1. The default value is 0: from all. (Nguyen et al. 2024.)</summary>
    public double MinP { get; init; }

    /// <summary>Logits of tokens of the prompt and the answer are divided by this where positive, else multiplied. Above 0; the default value is 1: none. (Keskar et al. 2019.)</summary>
    public double RepetitionPenalty { get; init; } = 1;

    /// <summary>Is taken from the logits of tokens that the answer holds. The default value is 0.</summary>
    public double PresencePenalty { get; init; }

    /// <summary>Is taken from a token's logit each time that the answer holds it. The default value is 0.</summary>
    public double FrequencyPenalty { get; init; }

    /// <summary>The same seed draws the same tokens from the same logits. The default value is null: another one for each request.</summary>
    public int? Seed { get; init; }

    /// <summary>Is added to the logits of tokens; -100 as good as bans one. The default value is null: none.</summary>
    public IReadOnlyDictionary<int, float>? LogitBias { get; init; }

    internal bool LeavesLogits => LogitBias is null or { Count: 0 } && RepetitionPenalty == 1 && PresencePenalty == 0 && FrequencyPenalty == 0;

    /// <summary>Says what is wrong with these settings, if anything is.</summary>
    /// <param name="vocabulary">Number of tokens that the model knows.</param>
    /// <exception cref="ArgumentOutOfRangeException">A setting is out of its range; its name is the parameter's.</exception>
    public void ThrowIfInvalid(int vocabulary)
    {
        Check(Temperature >= 0 && double.IsFinite(Temperature), nameof(Temperature), Temperature, "0 or more, finite");
        Check(TopK >= 0, nameof(TopK), TopK, "0 or more");
        Check(TopP is > 0 and <= 1, nameof(TopP), TopP, "above 0, at most 1");
        Check(MinP is >= 0 and <= 1, nameof(MinP), MinP, "0 to 1");
        Check(RepetitionPenalty is > 0 and <= 100, nameof(RepetitionPenalty), RepetitionPenalty, "above 0, at most 100");
        Check(Math.Abs(PresencePenalty) <= 100, nameof(PresencePenalty), PresencePenalty, "-100 to 100");
        Check(Math.Abs(FrequencyPenalty) <= 100, nameof(FrequencyPenalty), FrequencyPenalty, "-100 to 100");
        foreach ((int token, float bias) in LogitBias ?? new Dictionary<int, float>())
        {
            Check((uint)token < (uint)vocabulary, nameof(LogitBias), token, $"tokens of 0..{vocabulary - 1}");
            Check(float.IsFinite(bias), nameof(LogitBias), bias, "finite numbers");
        }

        // "not a number" fails every comparison, and so every check.
        static void Check(bool holds, string name, object value, string expected)
        {
            if (!holds)
            {
                throw new ArgumentOutOfRangeException(name, value, $"expected {expected}");
            }
        }
    }
}
