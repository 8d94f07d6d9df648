using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>What makes a configuration one that a cache can be made of.</content>
public sealed partial class KvCacheConfig
{
    private static readonly Dictionary<int, KvFormats> NoLayerFormats = [];

    /// <summary>Sequences of one step at most: each has a token at least.</summary>
    internal int MostBatched => Math.Min(MaxSequences, MaxBatchTokens);

    /// <summary>Statistics that the policy and merging ask for.</summary>
    internal KvStatistics Needs => (Policy?.Needs ?? KvStatistics.None) | (MergePages ? KvStatistics.FutureQueries : KvStatistics.None);

    /// <summary>The budget that is set, or null.</summary>
    internal long? BudgetFor(KvGeometry geometry) => MemoryBudgetBytes
        ?? (MemoryBudgetPercent is { } percent ? (long)(geometry.DenseF16Bytes(MaxTokens) * (percent / 100)) : null);

    /// <summary>Checks everything that needs no device, and lays out the pages.</summary>
    /// <exception cref="KvConfigurationException">A setting is out of its range or does not fit the geometry.</exception>
    internal PageClasses ClassesFor(KvGeometry geometry)
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
        Require(Watermark is > 0 and <= 1, nameof(Watermark), "above 0, at most 1", Watermark);
        Require(PlanEvery >= 1, nameof(PlanEvery), "at least 1", PlanEvery);
        Require(ScoreEvery >= 1, nameof(ScoreEvery), "at least 1", ScoreEvery);
        Require(
            ObservedQueries is >= 1 and <= KernelBatch.MaxObserved, nameof(ObservedQueries), $"1..{KernelBatch.MaxObserved}", ObservedQueries);
        Require(!MergePages || Policy is not null, nameof(MergePages), "a policy that drops pages", "none");
        Require(!MergePages || geometry.Rope is not null, nameof(MergePages), $"a geometry with {nameof(KvGeometry.Rope)}", "none");
        Require(
            geometry.Rope is not null || Policy?.Needs.Has(KvStatistics.FutureQueries) != true,
            nameof(Policy), $"a geometry with {nameof(KvGeometry.Rope)}, or a policy that foresees no queries", Policy?.GetType().Name);
        Require(!string.IsNullOrWhiteSpace(Device), nameof(Device), "a device's name", $"'{Device}'");
        Require(
            Enum.IsDefined(FullPrecision) && FullPrecision.IsFullPrecision(),
            nameof(FullPrecision), "F32, F16 or BF16", FullPrecision);
        Require(EdgeLayers >= 0, nameof(EdgeLayers), "at least 0", EdgeLayers);
        Require(Enum.IsDefined(NonFinite), nameof(NonFinite), "Reject or Keep", NonFinite);
        RequirePair(new KvFormats(KeyFormat, ValueFormat), geometry, nameof(KeyFormat), nameof(ValueFormat));
        foreach ((int layer, KvFormats formats) in LayerFormats ?? NoLayerFormats)
        {
            string setting = $"{nameof(LayerFormats)}[{layer}]";
            Require(layer >= 0 && layer < geometry.Layers, setting, $"layers 0..{geometry.Layers - 1}", $"layer {layer}");
            RequirePair(formats, geometry, $"{setting}.{nameof(formats.Key)}", $"{setting}.{nameof(formats.Value)}");
        }

        Require(DemotionFormats is not null, nameof(DemotionFormats), "a list", "null");
        for (int i = 0; i < DemotionFormats!.Count; i++)
        {
            string setting = $"{nameof(DemotionFormats)}[{i}]";
            RequirePair(DemotionFormats[i], geometry, $"{setting}.{nameof(KvFormats.Key)}", $"{setting}.{nameof(KvFormats.Value)}");
        }

        try
        {
            PageClasses classes = ClassesOf(geometry);
            _ = new TableMap(classes.Shape);
            _ = StepMemory.BookkeepingBytes(classes.Shape, MostBatched, MaxBatchTokens);
            return classes;
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

    private static void RequirePair(KvFormats formats, KvGeometry geometry, string keySetting, string valueSetting)
    {
        RequireFormat(formats.Key, geometry.KeyWidth, keySetting, "key");
        RequireFormat(formats.Value, geometry.ValueWidth, valueSetting, "value");
        Require(PageFormats.IsPair(formats.Key, formats.Value), $"{keySetting}, {valueSetting}", KvFormats.ExpectedPair, formats);
    }

    private static void RequireFormat(PageFormat format, int width, string setting, string part)
    {
        Require(Enum.IsDefined(format), setting, "a page format", format);
        Require(part == "key" ? format.IsForKeys() : format.IsForValues(), setting, $"a format of {part}s", format.Name());
        RequireWidth(format, width, setting, part);
    }

    private static void RequireWidth(PageFormat format, int width, string setting, string part) =>
        Require(format.Takes(width), setting, $"a {part} width that is a multiple of {format.WidthMultiple()} for {format}", $"a width of {width}");
}
