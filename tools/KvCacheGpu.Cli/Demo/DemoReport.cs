using System.Text.Json.Serialization;

namespace KvCacheGpu.Cli;

/// <summary>The document of <c>kvcache demo --json</c>.</summary>
/// <param name="Model">The model's name.</param>
/// <param name="Device">The device's id.</param>
/// <param name="DocumentTokens">Tokens of the document that every cache read.</param>
/// <param name="Facts">Facts in it.</param>
/// <param name="PerplexityTokens">Tokens of held-out text after it, of which each but the first was predicted at decode time.</param>
/// <param name="PageTokens">Tokens in a page.</param>
/// <param name="FullPrecisionBytes">Bytes of a dense F16 cache of the document.</param>
/// <param name="Seconds">Time of everything.</param>
/// <param name="Caches">One entry per cache.</param>
internal sealed record DemoReport(
    string Model,
    string Device,
    int DocumentTokens,
    int Facts,
    int PerplexityTokens,
    int PageTokens,
    long FullPrecisionBytes,
    double Seconds,
    IReadOnlyList<DemoCacheReport> Caches);

/// <summary>What one cache did.</summary>
/// <param name="Name">Its name in the table.</param>
/// <param name="KeyFormat">Format of sealed keys.</param>
/// <param name="ValueFormat">Format of sealed values.</param>
/// <param name="WindowTokens">Newest tokens that stay, or null: all.</param>
/// <param name="Asked">Questions.</param>
/// <param name="Right">Questions answered with the document's own word.</param>
/// <param name="Recall">Right / asked.</param>
/// <param name="Perplexity">Of the held-out text.</param>
/// <param name="AllocatedBytes">Bytes in use once the document was read: pages, tables, bookkeeping, working memory.</param>
/// <param name="PageBytes">Bytes of its pages among them.</param>
/// <param name="Ratio">Allocated bytes / those of a dense F16 cache.</param>
/// <param name="EvictedTokens">Tokens of the document dropped, mean over layers and heads.</param>
/// <param name="PrefillTokensPerSecond">Tokens of the document by the time it took to read.</param>
/// <param name="DecodeTokensPerSecond">Tokens of the held-out text by the time it took to write them one by one.</param>
internal sealed record DemoCacheReport(
    string Name,
    string KeyFormat,
    string ValueFormat,
    int? WindowTokens,
    int Asked,
    int Right,
    double Recall,
    double Perplexity,
    long AllocatedBytes,
    long PageBytes,
    double Ratio,
    double EvictedTokens,
    double PrefillTokensPerSecond,
    double DecodeTokensPerSecond)
{
    /// <summary>What the snapshot brought; null where the cache is the one that read the document.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public RestoredReport? Restored { get; init; }
}
