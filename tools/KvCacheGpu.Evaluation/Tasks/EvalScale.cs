namespace KvCacheGpu.Evaluation;

/// <summary>How large the tasks are.</summary>
/// <param name="Name">Its name; part of what a result is of.</param>
/// <param name="Tokens">Tokens of a document.</param>
/// <param name="Facts">Facts in it.</param>
/// <param name="Lengths">Lengths of the documents that needles lie in.</param>
/// <param name="Segments">Segments that are copied.</param>
/// <param name="Context">Tokens read before perplexity is measured.</param>
/// <param name="Written">Tokens that it is measured on.</param>
public sealed record EvalScale(string Name, int Tokens, int Facts, IReadOnlyList<int> Lengths, int Segments, int Context, int Written)
{
    /// <summary>Tokens in a page: small, so that a budget of few tokens is whole pages.</summary>
    public const int PageTokens = 16;

    /// <summary>Tokens of one step: few, so that what is still open does not hide what pages take.</summary>
    public const int StepTokens = 16;

    /// <summary>What reports are made with.</summary>
    public static EvalScale Full { get; } = new("full", 1_920, 24, [1_024, 1_472, 1_920], 16, 1_664, 256);

    /// <summary>What shows in seconds that everything works.</summary>
    public static EvalScale Quick { get; } = new("quick", 960, 8, [640, 960], 8, 896, 64);

    /// <summary>The most tokens that a sequence of any task reaches, about.</summary>
    public int MostTokens => Math.Max(Math.Max(Tokens, Lengths.Max()), Context + Written) + (2 * PageTokens);

    /// <summary>
    /// The last length up to <paramref name="tokens"/> at which a page has just been begun. A probe there that is shorter than a page
    /// takes no new page and fills none, so that no policy acts because of it and taking it back is exact.
    /// </summary>
    public static int Quiet(int tokens) => ((tokens - 1) / PageTokens * PageTokens) + 1;
}
