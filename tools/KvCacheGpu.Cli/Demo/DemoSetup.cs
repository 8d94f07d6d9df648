using KvCacheGpu.Kernels;

namespace KvCacheGpu.Cli;

/// <summary>One of the caches that the demo compares.</summary>
/// <param name="Name">Its name in the table.</param>
/// <param name="Format">Format of sealed keys and values.</param>
/// <param name="WindowTokens">Newest tokens that stay, or null: all.</param>
internal sealed record DemoSetup(string Name, PageFormat Format, int? WindowTokens)
{
    /// <summary>Tokens in a page: small, so that a window of few tokens is whole pages.</summary>
    public const int PageTokens = 16;

    // Tokens of one step: small, so that the working memory of steps does not hide what pages take.
    private const int StepTokens = 64;

    /// <summary>Full precision, compressed, and evicted to a window of a quarter of the document.</summary>
    public static IReadOnlyList<DemoSetup> All { get; } =
    [
        new("f16", PageFormat.F16, null),
        new("i8", PageFormat.I8, null),
        new("f16 window 25 %", PageFormat.F16, DemoText.DocumentTokens / 4),
    ];

    /// <summary>The cache: for the document with what is written after it, and one fork of it at a time.</summary>
    public KvCacheConfig Config(string device) => new()
    {
        Device = device,
        MaxTokens = DemoText.DocumentTokens + DemoText.ContinuationTokens,
        MaxSequences = 2,
        MaxBatchTokens = StepTokens,
        KeyFormat = Format,
        ValueFormat = Format,
        Policy = WindowTokens is { } window ? new WindowPolicy(window) : null,
    };
}
