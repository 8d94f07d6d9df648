using KvCacheGpu.Serving;

namespace KvCacheGpu.Cli;

/// <summary>One prompt of several, and the tokens that have been generated after it.</summary>
/// <param name="prompt">The prompt.</param>
/// <param name="newTokens">The most tokens to generate.</param>
/// <param name="sampler">Its own draws, which are the same as if it ran alone.</param>
/// <param name="stops">Tokens that end the text.</param>
internal sealed class Continuation(int[] prompt, int newTokens, KvSampler sampler, IReadOnlyList<int> stops)
{
    private readonly List<int> _tokens = [];

    /// <summary>The prompt.</summary>
    public int[] Prompt => prompt;

    /// <summary>The tokens generated so far.</summary>
    public IReadOnlyList<int> Tokens => _tokens;

    /// <summary>Its sequence; null until one was made or forked for it.</summary>
    public KvSequence? Sequence { get; set; }

    /// <summary>True if no more tokens follow.</summary>
    public bool IsDone => _tokens.Count == newTokens || (_tokens.Count > 0 && stops.Contains(_tokens[^1]));

    /// <summary>The prompt's tokens that are not in the cache yet.</summary>
    public ReadOnlySpan<int> Unread => prompt.AsSpan(Sequence?.Length ?? 0);

    /// <summary>Chooses the next token.</summary>
    public void Take(ReadOnlySpan<float> logits) => _tokens.Add(sampler.Next(logits));
}
