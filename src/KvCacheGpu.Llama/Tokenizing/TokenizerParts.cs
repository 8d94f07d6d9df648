namespace KvCacheGpu.Llama;

/// <summary>The parts of a tokenizer, whatever files they came from.</summary>
/// <param name="File">The name of the file in errors.</param>
/// <param name="Model">The vocabulary.</param>
/// <param name="Added">Tokens that are matched as a whole in text.</param>
internal sealed record TokenizerParts(string File, TextModel Model, IReadOnlyList<AddedToken> Added)
{
    /// <summary>Normalizes the text between added tokens before it is cut. Its second argument is true if nothing of the text comes before.</summary>
    public Func<string, bool, string> Normalize { get; init; } = (text, _) => text;

    /// <summary>The steps by which text is cut into words; none if the vocabulary takes whole texts.</summary>
    public IReadOnlyList<WordStep> Steps { get; init; } = [];

    /// <summary>Tokens of the vocabulary itself that decoding omits, besides special added ones.</summary>
    public IReadOnlyList<int> Silent { get; init; } = [];

    /// <summary>True if a decoded text loses its first space.</summary>
    public bool DropsFirstSpace { get; init; }

    /// <summary>True if the file tells the token that starts texts, <see cref="Start"/>.</summary>
    public bool KnowsStart { get; init; }

    /// <summary>The token that starts texts by the file; null for none.</summary>
    public int? Start { get; init; }
}
