namespace KvCacheGpu.Cli;

/// <summary>The document of <c>kvcache plan --json</c>.</summary>
/// <param name="Geometry">The shape planned for.</param>
/// <param name="ContextTokens">Tokens of the one sequence.</param>
/// <param name="DenseF16Bytes">Bytes of a dense F16 cache of them.</param>
/// <param name="BudgetBytes">The budget in bytes, or null.</param>
/// <param name="Formats">One entry per pair of formats that attention reads and the widths allow.</param>
/// <param name="RefusedFormats">Formats that do not take the widths.</param>
internal sealed record PlanReport(
    GeometryReport Geometry,
    long ContextTokens,
    long DenseF16Bytes,
    long? BudgetBytes,
    IReadOnlyList<FormatPlanReport> Formats,
    IReadOnlyList<string> RefusedFormats);

/// <summary>A model's shape.</summary>
internal sealed record GeometryReport(int Layers, int QueryHeads, int KvHeads, int KeyWidth, int ValueWidth, int PageTokens);

/// <summary>What a pair of formats takes.</summary>
/// <param name="KeyFormat">Format of sealed keys.</param>
/// <param name="ValueFormat">Format of sealed values.</param>
/// <param name="Layers">The formats by layers: where these have 4 bits or fewer, models of 8 layers and more have I8 at the edges.</param>
/// <param name="PageBytes">Bytes of one sealed page of one layer and head in these formats.</param>
/// <param name="BytesPerToken">Bytes of one more token over all layers and heads, in the long run; the next five add up to it.</param>
/// <param name="ElementBytesPerToken">Of its elements.</param>
/// <param name="ScaleBytesPerToken">Of its scales.</param>
/// <param name="MeanBytesPerToken">Its share of the pages' mean keys, half of their digests.</param>
/// <param name="DeviationBytesPerToken">Its share of their deviations, the other half.</param>
/// <param name="PaddingBytesPerToken">Its share of what lies between pages.</param>
/// <param name="TableBytesPerToken">Its share of the context's page tables, which come on top.</param>
/// <param name="ContextPageBytes">Bytes of the context's pages; the last ones are open, in F16 where no format is itself full precision.</param>
/// <param name="ContextTableBytes">Bytes of its page tables.</param>
/// <param name="ContextBytes">Both.</param>
/// <param name="Ratio">Of the dense F16 bytes.</param>
/// <param name="Fits">Whether a sequence can grow to the context within the budget, or null.</param>
/// <param name="FittingTokens">The most tokens that it can grow to within the budget, or null.</param>
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
    bool? Fits,
    long? FittingTokens);

/// <summary>How many layers are sealed in a pair of formats.</summary>
internal sealed record LayersReport(string KeyFormat, string ValueFormat, int Layers);
