namespace KvCacheGpu.Evaluation;

/// <summary>The size of the tasks.</summary>
/// <param name="Name">Its name, which is part of a result's identity.</param>
/// <param name="Tokens">Number of tokens of a document.</param>
/// <param name="Facts">Number of facts in a document.</param>
/// <param name="Lengths">Lengths of the documents of the needle task, in tokens.</param>
/// <param name="Segments">Number of segments that are copied.</param>
/// <param name="Context">Number of tokens read before perplexity is measured.</param>
/// <param name="Written">Number of tokens on which perplexity is measured.</param>
public sealed record EvalScale(string Name, int Tokens, int Facts, IReadOnlyList<int> Lengths, int Segments, int Context, int Written)
{
    /// <summary>Tokens in a page: few, so that a small budget consists of whole pages.</summary>
    public const int PageTokens = 16;

    /// <summary>Tokens of one step: few, so that open pages are few beside the sealed ones.</summary>
    public const int StepTokens = 16;

    /// <summary>Tokens at the start of a text that are not scored, because most of what they see is not compressed yet.</summary>
    public const int LeadTokens = 8 * PageTokens;

    /// <summary>The scale of reports.</summary>
    public static EvalScale Full { get; } = new("full", 1_920, 24, [1_024, 1_472, 1_920], 16, 1_664, 256);

    /// <summary>A scale that shows in seconds that everything works.</summary>
    public static EvalScale Quick { get; } = new("quick", 960, 8, [640, 960], 8, 896, 64);

    /// <summary>About the most tokens of a sequence of any task.</summary>
    public int MostTokens => Math.Max(Math.Max(Tokens, Lengths.Max()), Context + Written) + (2 * PageTokens);

    /// <summary>
    /// The last length up to <paramref name="tokens"/> at which a page has just begun. A probe there that is shorter than a page
    /// takes no new page and fills none, so that no policy acts because of it, and rolling it back is exact.
    /// </summary>
    public static int Quiet(int tokens) => ((tokens - 1) / PageTokens * PageTokens) + 1;
}
