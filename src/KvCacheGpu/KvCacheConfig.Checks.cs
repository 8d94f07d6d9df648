using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>What makes a configuration one that a cache can be made of.</content>
public sealed partial class KvCacheConfig
{
    /// <summary>Sequences of one step at most: each has a token at least.</summary>
    internal int MostBatched => Math.Min(MaxSequences, MaxBatchTokens);

    /// <summary>Checks everything that needs no device, and shapes the tier.</summary>
    /// <exception cref="KvConfigurationException">A setting is out of its range or does not fit the geometry.</exception>
    internal KernelShape ShapeFor(KvGeometry geometry)
    {
        Require(MaxTokens >= 1 && MaxTokens <= TableMap.MaxPageIndex, nameof(MaxTokens), $"1..{TableMap.MaxPageIndex}", MaxTokens);
        Require(MaxSequences >= 1, nameof(MaxSequences), "at least 1", MaxSequences);
        Require(MaxBatchTokens >= 1, nameof(MaxBatchTokens), "at least 1", MaxBatchTokens);
        Require(
            MemoryBudgetBytes is null || MemoryBudgetPercent is null,
            nameof(MemoryBudgetBytes), $"one of it and {nameof(MemoryBudgetPercent)}", "both");
        Require(MemoryBudgetBytes is null or > 0, nameof(MemoryBudgetBytes), "above 0", MemoryBudgetBytes);
        Require(
            MemoryBudgetPercent is null || (double.IsFinite(MemoryBudgetPercent.Value) && MemoryBudgetPercent > 0),
            nameof(MemoryBudgetPercent), "a number above 0", MemoryBudgetPercent);
        Require(!string.IsNullOrWhiteSpace(Device), nameof(Device), "a device's name", $"'{Device}'");
        Require(
            Enum.IsDefined(FullPrecision) && FullPrecision.IsFullPrecision(),
            nameof(FullPrecision), "F32, F16 or BF16", FullPrecision);
        RequireFormat(KeyFormat, geometry.KeyWidth, nameof(KeyFormat), "key");
        RequireFormat(ValueFormat, geometry.ValueWidth, nameof(ValueFormat), "value");
        try
        {
            var open = new PageLayout(geometry, OpenFormat(KeyFormat), OpenFormat(ValueFormat));
            var sealedLayout = new PageLayout(geometry, KeyFormat, ValueFormat);
            var shape = new KernelShape(geometry, open, sealedLayout, RotationSeed, MaxSequences, geometry.PagesFor(MaxTokens));
            _ = new TableMap(shape);
            _ = StepMemory.BookkeepingBytes(shape, MostBatched, MaxBatchTokens);
            return shape;
        }
        catch (OverflowException e)
        {
            throw new KvConfigurationException(
                "tables", "fewer than 2^31 words of tables and pages", $"{MaxTokens} tokens, {MaxSequences} sequences, {MaxBatchTokens} tokens a step", e);
        }
    }

    private static void Require(bool holds, string setting, string expected, object? actual)
    {
        if (!holds)
        {
            throw new KvConfigurationException(setting, expected, $"{actual}");
        }
    }

    private PageFormat OpenFormat(PageFormat format) => format.IsFullPrecision() ? format : FullPrecision;

    private void RequireFormat(PageFormat format, int width, string setting, string part)
    {
        Require(Enum.IsDefined(format), setting, "a page format", format);
        Require(format.Takes(width), setting, $"a {part} width that is a multiple of {format.WidthMultiple()} for {format}", $"a width of {width}");
        PageFormat open = OpenFormat(format);
        Require(open.Takes(width), nameof(FullPrecision), $"a {part} width that is a multiple of {open.WidthMultiple()} for {open}", $"a width of {width}");
    }
}
