namespace KvCacheGpu.Cli;

/// <summary>One of the caches that the demo compares.</summary>
/// <param name="Name">Its name in the table.</param>
/// <param name="Formats">Formats of sealed pages, in every layer.</param>
/// <param name="WindowTokens">Number of newest tokens that stay; null if all do.</param>
/// <param name="IsRestored">True if the document is saved after it was read, and restored into another cache that answers the questions.</param>
internal sealed record DemoSetup(string Name, KvFormats Formats, int? WindowTokens, bool IsRestored = false)
{
    /// <summary>Tokens in a page: few, so that a small window consists of whole pages.</summary>
    public const int PageTokens = 16;

    // Tokens of one step: few, so that the working memory of steps is small beside the bytes of pages.
    private const int StepTokens = 64;

    /// <summary>The caches: full precision, more and more compressed ones, one evicted to a window of a quarter of the document, and one restored from a snapshot.</summary>
    public static IReadOnlyList<DemoSetup> All { get; } =
    [
        new("f16", new KvFormats(PageFormat.F16, PageFormat.F16), null),
        new("i8", new KvFormats(PageFormat.I8, PageFormat.I8), null),
        new("t4 + v4", new KvFormats(PageFormat.T4, PageFormat.V4), null),
        new("t3 + v3", new KvFormats(PageFormat.T3, PageFormat.V3), null),
        new("t2 + v2", new KvFormats(PageFormat.T2, PageFormat.V2), null),
        new("f16 window 25 %", new KvFormats(PageFormat.F16, PageFormat.F16), DemoText.DocumentTokens / 4),
        new("t4 + v4 restored", new KvFormats(PageFormat.T4, PageFormat.V4), null, IsRestored: true),
    ];

    /// <summary>The cache: for the document with what is written after it, and one fork of it at a time.</summary>
    public KvCacheOptions Config(string device) => new()
    {
        Device = device,
        MaxTokens = DemoText.DocumentTokens + DemoText.ContinuationTokens,
        MaxSequences = 2,
        MaxBatchTokens = StepTokens,
        KeyFormat = Formats.Key,
        ValueFormat = Formats.Value,
        EdgeLayers = 0,
        Policy = WindowTokens is { } window ? new WindowPolicy(window) : null,
    };
}
