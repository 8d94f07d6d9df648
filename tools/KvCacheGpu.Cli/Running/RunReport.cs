using System.Text.Json.Serialization;

namespace KvCacheGpu.Cli;

/// <summary>The document of <c>kvcache run --json</c>.</summary>
/// <param name="Model">The model directory's own name.</param>
/// <param name="Device">The device's id, "cpu".</param>
/// <param name="PromptTokens">The tokens of the prompt.</param>
/// <param name="Tokens">The generated tokens, with the one that ends the text, if any.</param>
/// <param name="Text">Their text; null if the model has no tokenizer.</param>
/// <param name="TokensPerSecond">Generated tokens divided by the time from the first to the last; by the whole time if there is only one.</param>
/// <param name="Cache">The content of the cache at the end.</param>
internal sealed record RunReport(
    string Model,
    string Device,
    IReadOnlyList<int> PromptTokens,
    IReadOnlyList<int> Tokens,
    string? Text,
    double TokensPerSecond,
    CacheReport Cache)
{
    /// <summary>Number of prompt tokens that a tier had, so that they were not computed; left out without tiers.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public int? ReusedTokens { get; init; }

    /// <summary>The tiers below the cache; left out without any.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<TierReport>? Tiers { get; init; }

    /// <summary>What became of the pages that the policy let go; left out without --offload.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public KvOffloadCounts? Offload { get; init; }

    /// <summary>The snapshot of --load; left out without it.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public RestoredReport? Restored { get; init; }

    /// <summary>The snapshot of --save; left out without it.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public SnapshotReport? Saved { get; init; }
}

/// <summary>A restored snapshot, and how much of it equals the saved one.</summary>
/// <param name="Exact">True if the sequence continues exactly as it would have without saving.</param>
/// <param name="ExactPages">Number of pages that equal the saved ones bit for bit.</param>
/// <param name="ReencodedPages">Number of pages that were encoded again.</param>
/// <param name="EvictedPages">Number of pages that the policy dropped while restoring.</param>
/// <param name="Notes">The differences and their reasons.</param>
internal sealed record RestoredReport(bool Exact, long ExactPages, long ReencodedPages, long EvictedPages, IReadOnlyList<string> Notes)
{
    /// <summary>Makes the document of a restored snapshot.</summary>
    public static RestoredReport Of(KvRestored restored) => new(
        restored.IsExact,
        restored.ExactPages,
        restored.ReencodedPages,
        restored.EvictedPages,
        restored.Snapshot?.Notice is { } notice ? [notice, .. restored.Notes] : restored.Notes);
}

/// <summary>The content of a cache.</summary>
/// <param name="Tokens">Number of tokens that it has read, evicted ones counted. The last generated token is not among them.</param>
/// <param name="AllocatedBytes">Bytes in use: live pages, tables, bookkeeping, working memory.</param>
/// <param name="FullPrecisionBytes">Bytes of a dense F16 cache of the same tokens.</param>
/// <param name="EvictedTokens">Number of dropped tokens, mean over layers and heads.</param>
/// <param name="Pages">Live pages.</param>
internal sealed record CacheReport(long Tokens, long AllocatedBytes, long FullPrecisionBytes, double EvictedTokens, PagesReport Pages);

/// <summary>Live pages over all layers and KV heads.</summary>
/// <param name="Open">Number of open pages, in full precision.</param>
/// <param name="Sealed">Number of sealed pages.</param>
/// <param name="Formats">The pages by formats.</param>
internal sealed record PagesReport(int Open, int Sealed, IReadOnlyList<FormatPagesReport> Formats)
{
    /// <summary>Makes the document of a cache's pages.</summary>
    public static PagesReport Of(KvCache cache)
    {
        KvPageCounts pages = cache.GetPageCounts();
        return new PagesReport(
            pages.Open,
            pages.Sealed,
            [.. pages.ByFormats.Select(f => new FormatPagesReport(f.Formats.Key.Name(), f.Formats.Value.Name(), f.Open, f.Sealed, f.Bytes))]);
    }
}

/// <summary>Live pages in one pair of formats.</summary>
/// <param name="KeyFormat">Format of the keys.</param>
/// <param name="ValueFormat">Format of the values.</param>
/// <param name="Open">Number of open pages.</param>
/// <param name="Sealed">Number of sealed pages.</param>
/// <param name="Bytes">Bytes of all of them.</param>
internal sealed record FormatPagesReport(string KeyFormat, string ValueFormat, int Open, int Sealed, long Bytes);
