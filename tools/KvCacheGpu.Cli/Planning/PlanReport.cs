using System.Text.Json.Serialization;
using KvCacheGpu.Kernels;

namespace KvCacheGpu.Cli;

/// <summary>The document of <c>kvcache plan --json</c>.</summary>
/// <param name="Geometry">The shape of the model.</param>
/// <param name="ContextTokens">Number of tokens of one sequence.</param>
/// <param name="Sequences">Number of sequences, of so many tokens each.</param>
/// <param name="DenseF16Bytes">Bytes of a dense F16 cache of one sequence's tokens.</param>
/// <param name="SequencesDenseF16Bytes">Bytes of a dense F16 cache of the tokens of all sequences.</param>
/// <param name="BudgetBytes">The budget in bytes, or null.</param>
/// <param name="Formats">One entry per pair of formats that attention reads and the widths allow.</param>
/// <param name="RefusedFormats">Formats that do not take the widths of the shape.</param>
internal sealed record PlanReport(
    GeometryReport Geometry,
    long ContextTokens,
    int Sequences,
    long DenseF16Bytes,
    long SequencesDenseF16Bytes,
    long? BudgetBytes,
    IReadOnlyList<FormatPlanReport> Formats,
    IReadOnlyList<string> RefusedFormats)
{
    /// <summary>Bytes of host memory for blocks of prefixes; left out without any.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public long? HostBudgetBytes { get; init; }

    /// <summary>Bytes of a folder for them; left out without any.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public long? DiskBudgetBytes { get; init; }

    /// <summary>Bytes of host memory for pages that a policy lets go; left out without any.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public long? OffloadBytes { get; init; }

    /// <summary>Says how many tokens lower tiers hold.</summary>
    public PlanReport WithTiers(long? host, long? disk, long? offload) => this with
    {
        HostBudgetBytes = host,
        DiskBudgetBytes = disk,
        OffloadBytes = offload,
        Formats = [.. Formats.Select(f => f with
        {
            HostTokens = host / f.BlockBytes * Geometry.PageTokens,
            DiskTokens = disk / f.BlockBytes * Geometry.PageTokens,
            OffloadTokens = offload is { } bytes ? (long)(bytes / OffloadBytesPerToken(f)) : null,
        })],
    };

    // A page takes as many bytes there as on the device, and the sketch of its keys beside it.
    private double OffloadBytesPerToken(FormatPlanReport format)
    {
        var shape = new KvGeometry(Geometry.Layers, Geometry.QueryHeads, Geometry.KvHeads, Geometry.KeyWidth, Geometry.ValueWidth, Geometry.PageTokens);
        double sketch = new KeySketch(shape).Units * PageLayout.UnitBytes;
        return format.BytesPerToken + (sketch * Geometry.Layers * Geometry.KvHeads / Geometry.PageTokens);
    }
}

/// <summary>A model's shape.</summary>
internal sealed record GeometryReport(int Layers, int QueryHeads, int KvHeads, int KeyWidth, int ValueWidth, int PageTokens);

/// <summary>The bytes that a pair of formats takes.</summary>
/// <param name="KeyFormat">Format of sealed keys.</param>
/// <param name="ValueFormat">Format of sealed values.</param>
/// <param name="Layers">The formats by layers: with formats of 4 bits or fewer, models of 8 layers and more have I8 in the first and last layers.</param>
/// <param name="PageBytes">Bytes of one sealed page of one layer and head in these formats.</param>
/// <param name="BytesPerToken">Bytes of one more token over all layers and heads, in the long run; the next five numbers add up to it.</param>
/// <param name="ElementBytesPerToken">Bytes of its elements.</param>
/// <param name="ScaleBytesPerToken">Bytes of its scales.</param>
/// <param name="MeanBytesPerToken">Its share of the pages' mean keys, half of their digests.</param>
/// <param name="DeviationBytesPerToken">Its share of their deviations, the other half.</param>
/// <param name="PaddingBytesPerToken">Its share of the bytes between pages.</param>
/// <param name="TableBytesPerToken">Its share of the context's page tables, which is not part of BytesPerToken.</param>
/// <param name="ContextPageBytes">Bytes of the context's pages; the last ones are open, in F16 if neither format is in full precision.</param>
/// <param name="ContextTableBytes">Bytes of its page tables.</param>
/// <param name="ContextBytes">Bytes of the context's pages and tables.</param>
/// <param name="Ratio">The context's bytes divided by the dense F16 bytes.</param>
/// <param name="ContextBookkeepingBytes">Bytes of its token ids and what else the host keeps of it; not part of ContextBytes.</param>
/// <param name="ContextHostTableBytes">Bytes of the host's copy of its page tables, which there is only where pages lie on a device; part of no other number.</param>
/// <param name="SequencesPageBytes">Bytes of the pages of all sequences.</param>
/// <param name="SequencesTableBytes">Bytes of their page tables.</param>
/// <param name="SequencesBookkeepingBytes">Bytes of their bookkeeping.</param>
/// <param name="EmptyCacheBytes">
/// Bytes that a cache for so many sequences and tokens takes on the CPU before it has a sequence: the root of its tables, the working memory of a step, what is
/// kept of slabs. Null if no arena holds so many tokens.
/// </param>
/// <param name="CacheBytes">Bytes of the cache with the sequences: the four numbers before. Null without an empty cache.</param>
/// <param name="CacheRatio">CacheBytes divided by the dense F16 bytes of all sequences; null without an empty cache.</param>
/// <param name="Fits">True if all sequences can grow to the context within the budget; null without a budget.</param>
/// <param name="FittingTokens">The most tokens to which each can grow within the budget; null without a budget.</param>
internal sealed record FormatPlanReport(
    string KeyFormat,
    string ValueFormat,
    IReadOnlyList<LayersReport> Layers,
    int PageBytes,
    double BytesPerToken,
    double ElementBytesPerToken,
    double ScaleBytesPerToken,
    double MeanBytesPerToken,
    double DeviationBytesPerToken,
    double PaddingBytesPerToken,
    double TableBytesPerToken,
    long ContextPageBytes,
    long ContextTableBytes,
    long ContextBytes,
    double Ratio,
    long ContextBookkeepingBytes,
    long ContextHostTableBytes,
    long SequencesPageBytes,
    long SequencesTableBytes,
    long SequencesBookkeepingBytes,
    long? EmptyCacheBytes,
    long? CacheBytes,
    double? CacheRatio,
    bool? Fits,
    long? FittingTokens)
{
    /// <summary>Bytes of a block of prefixes in a lower tier: the sealed pages of all layers and heads, and what checks them.</summary>
    [JsonIgnore]
    public long BlockBytes { get; init; }

    /// <summary>Tokens whose blocks host memory holds; left out without a budget of it.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public long? HostTokens { get; init; }

    /// <summary>Tokens whose blocks a folder holds; left out without a budget of it.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public long? DiskTokens { get; init; }

    /// <summary>Tokens whose sealed pages host memory holds once a policy lets them go; left out without a budget of it.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public long? OffloadTokens { get; init; }
}

/// <summary>The number of layers that are sealed in a pair of formats.</summary>
internal sealed record LayersReport(string KeyFormat, string ValueFormat, int Layers);
