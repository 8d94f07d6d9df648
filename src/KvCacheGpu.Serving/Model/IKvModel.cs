namespace KvCacheGpu.Serving;

/// <summary>A model whose keys and values lie in a cache, as a <see cref="KvScheduler"/> runs it. It attends through the cache alone, so that a sequence's pages are all it needs.</summary>
/// <remarks>Thread safety: a scheduler calls <see cref="Forward"/> from one thread at a time, and reads the properties from any.</remarks>
public interface IKvModel
{
    /// <summary>Number of tokens that the model knows; logits are given for each.</summary>
    int VocabularySize { get; }

    /// <summary>The most tokens of one <see cref="Forward"/>.</summary>
    int MaxStepTokens { get; }

    /// <summary>The most tokens of a sequence, prompt and answer together.</summary>
    int MaxContextTokens { get; }

    /// <summary>Tokens that end an answer.</summary>
    IReadOnlyCollection<int> EndTokens { get; }

    /// <summary>Runs tokens at the ends of sequences as one step, and commits it. If it throws, every sequence is as it was.</summary>
    /// <param name="sequences">The sequences, of one cache, each once.</param>
    /// <param name="tokenIds">Their tokens, the first sequence's first; at most <see cref="MaxStepTokens"/>.</param>
    /// <param name="tokensPerSequence">Tokens of each sequence, at least 1.</param>
    /// <param name="logitTokens">Places in <paramref name="tokenIds"/>, ascending, whose next token is asked for; may be empty.</param>
    /// <param name="logits">Receives <c>[logitTokens][VocabularySize]</c>.</param>
    /// <exception cref="KvCacheException">The cache refuses the step.</exception>
    void Forward(
        ReadOnlySpan<KvSequence> sequences, ReadOnlySpan<int> tokenIds, ReadOnlySpan<int> tokensPerSequence, ReadOnlySpan<int> logitTokens, Span<float> logits);
}
