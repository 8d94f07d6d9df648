using System.Text.Json.Serialization;

namespace KvCacheGpu.Cli;

/// <summary>The document of <c>kvcache demo --json</c>.</summary>
/// <param name="Model">The model's name.</param>
/// <param name="Device">The device's id.</param>
/// <param name="DocumentTokens">Number of tokens of the document that every cache read.</param>
/// <param name="Facts">Number of facts in the document.</param>
/// <param name="PerplexityTokens">Number of tokens of held-out text after the document. Each but the first was predicted while decoding.</param>
/// <param name="PageTokens">Tokens in a page.</param>
/// <param name="FullPrecisionBytes">Bytes of a dense F16 cache of the document.</param>
/// <param name="Seconds">Time of the whole demo.</param>
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

/// <summary>The results of one cache.</summary>
/// <param name="Name">Its name in the table.</param>
/// <param name="KeyFormat">Format of sealed keys.</param>
/// <param name="ValueFormat">Format of sealed values.</param>
/// <param name="WindowTokens">Number of newest tokens that stay; null if all do.</param>
/// <param name="Asked">Number of questions.</param>
/// <param name="Right">Number of questions answered with the document's own word.</param>
/// <param name="Recall">Right divided by asked.</param>
/// <param name="Perplexity">Perplexity of the held-out text.</param>
/// <param name="AllocatedBytes">Bytes in use after the document was read: pages, tables, bookkeeping, working memory.</param>
/// <param name="PageBytes">Bytes of its pages, a part of the allocated bytes.</param>
/// <param name="Ratio">Allocated bytes divided by those of a dense F16 cache.</param>
/// <param name="EvictedTokens">Number of dropped tokens of the document, mean over layers and heads.</param>
/// <param name="PrefillTokensPerSecond">Tokens of the document divided by the time of reading them.</param>
/// <param name="DecodeTokensPerSecond">Tokens of the held-out text divided by the time of writing them one by one.</param>
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
    /// <summary>The restored snapshot; null if the cache is the one that read the document.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public RestoredReport? Restored { get; init; }
}
