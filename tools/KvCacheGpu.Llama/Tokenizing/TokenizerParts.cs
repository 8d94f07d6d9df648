namespace KvCacheGpu.Llama;

/// <summary>What a tokenizer is made of, whichever files it came in.</summary>
/// <param name="File">The file, as errors name it.</param>
/// <param name="Model">The vocabulary.</param>
/// <param name="Added">Tokens that are matched in text whole.</param>
internal sealed record TokenizerParts(string File, TextModel Model, IReadOnlyList<AddedToken> Added)
{
    /// <summary>What becomes of the text between added tokens, before it is cut; it is told whether nothing of the text stands before.</summary>
    public Func<string, bool, string> Normalize { get; init; } = (text, _) => text;

    /// <summary>How text is cut into words, step by step; none where the vocabulary takes it whole.</summary>
    public IReadOnlyList<WordStep> Steps { get; init; } = [];

    /// <summary>Tokens of the vocabulary itself that decoding leaves out, besides added ones that are special.</summary>
    public IReadOnlyList<int> Silent { get; init; } = [];

    /// <summary>True if a decoded text loses the space that it begins with.</summary>
    public bool DropsFirstSpace { get; init; }

    /// <summary>True if the file says which token starts texts, <see cref="Start"/>.</summary>
    public bool KnowsStart { get; init; }

    /// <summary>The token that starts texts, as the file says it; null is none.</summary>
    public int? Start { get; init; }
}
