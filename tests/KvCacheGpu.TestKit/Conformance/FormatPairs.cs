namespace KvCacheGpu.TestKit;

/// <summary>The pairs of formats of keys and values that pages can have.</summary>
public static class FormatPairs
{
    /// <summary>Every format with itself or its natural partner.</summary>
    public static readonly (PageFormat Key, PageFormat Value)[] Natural =
    [
        (PageFormat.F32, PageFormat.F32),
        (PageFormat.F16, PageFormat.F16),
        (PageFormat.BF16, PageFormat.BF16),
        (PageFormat.I8, PageFormat.I8),
        (PageFormat.T4, PageFormat.V4),
        (PageFormat.T3, PageFormat.V3),
        (PageFormat.T2, PageFormat.V2),
        (PageFormat.FP8, PageFormat.FP8),
        (PageFormat.Q8, PageFormat.Q8),
        (PageFormat.Q4, PageFormat.Q4),
    ];

    /// <summary>I8 with every other format, as key and as value.</summary>
    public static readonly (PageFormat Key, PageFormat Value)[] WithI8 =
    [
        .. from pair in Natural
           where pair.Key != PageFormat.I8
           from mixed in new[] { (pair.Key, PageFormat.I8), (PageFormat.I8, pair.Value) }
           select mixed,
    ];

    /// <summary>All pairs.</summary>
    public static readonly (PageFormat Key, PageFormat Value)[] All = [.. Natural, .. WithI8];

    /// <summary>A full-precision format for open pages: that of the pair if it has one, otherwise one of the three by turns.</summary>
    public static PageFormat OpenFor((PageFormat Key, PageFormat Value) pair, int turn) =>
        pair.Key.IsFullPrecision() ? pair.Key : pair.Value.IsFullPrecision() ? pair.Value : Shapes.FullPrecision[turn % 3];
}
