using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>Checks the options of a cache, as far as that needs no device.</summary>
internal static class OptionsCheck
{
    private static readonly Dictionary<int, KvFormats> NoLayerFormats = [];
    private static readonly Dictionary<string, KvTenantQuota> NoQuotas = [];

    /// <summary>Checks every option, and lays out the pages.</summary>
    /// <exception cref="KvConfigurationException">E003: an option is out of its range or does not fit the geometry. The error names it.</exception>
    public static PageClasses ClassesFor(KvCacheOptions options, KvGeometry geometry)
    {
        CheckSizes(options);
        CheckMemory(options);
        CheckTiers(options);
        CheckPolicy(options, geometry);
        CheckOffload(options, geometry);
        CheckFormats(options, geometry);
        try
        {
            PageClasses classes = FormatPlan.ClassesOf(options, geometry);
            _ = new TableMap(classes.Shape);
            CheckBlocks(options, classes);
            return classes;
        }
        catch (OverflowException e)
        {
            throw TooLarge(options, e);
        }
    }

    /// <summary>Says that a cache of these sizes cannot be addressed.</summary>
    public static KvConfigurationException TooLarge(KvCacheOptions options, OverflowException inner) => new(
        $"{nameof(options.MaxSequenceTokens)}, {nameof(options.MaxSequences)}, {nameof(options.MaxBatchTokens)}",
        "values for which tables and pages take fewer than 2^31 words",
        $"{options.LongestSequence}, {options.MaxSequences}, {options.MaxBatchTokens}",
        inner);

    /// <exception cref="KvConfigurationException">E003: the format does not take such a width.</exception>
    public static void RequireWidth(PageFormat format, int width, string option, string part) =>
        Require(format.Takes(width), option, $"a {part} width that is a multiple of {format.WidthMultiple()} for {format}", $"a width of {width}");

    /// <exception cref="KvConfigurationException">E003, if <paramref name="holds"/> is false.</exception>
    public static void Require(bool holds, string option, string expected, object? actual)
    {
        if (!holds)
        {
            throw new KvConfigurationException(option, expected, $"{actual}");
        }
    }

    private static void CheckSizes(KvCacheOptions options)
    {
        Require(!string.IsNullOrWhiteSpace(options.Device), nameof(options.Device), "a device's name", $"'{options.Device}'");
        Require(options.MaxTokens >= 1 && options.MaxTokens <= TableMap.MaxPageIndex, nameof(options.MaxTokens), $"1..{TableMap.MaxPageIndex}", options.MaxTokens);
        Require(
            options.MaxSequenceTokens is null or (>= 1 and <= TableMap.MaxPageIndex),
            nameof(options.MaxSequenceTokens), $"1..{TableMap.MaxPageIndex}", options.MaxSequenceTokens);
        Require(
            options.ExactRollbackTokens is >= 0 and <= KvGeometry.MaxPageTokens,
            nameof(options.ExactRollbackTokens), $"0..{KvGeometry.MaxPageTokens}", options.ExactRollbackTokens);
        Require(options.MaxSequences >= 1, nameof(options.MaxSequences), "at least 1", options.MaxSequences);
        Require(options.MaxBatchTokens >= 1, nameof(options.MaxBatchTokens), "at least 1", options.MaxBatchTokens);
        Require(
            !options.PrefixEvents || options.PrefixReuse, nameof(options.PrefixEvents), $"{nameof(options.PrefixReuse)}, without which there are none", "it alone");
    }

    private static void CheckMemory(KvCacheOptions options)
    {
        Require(
            options.MemoryBudgetBytes is null || options.MemoryBudgetPercent is null,
            nameof(options.MemoryBudgetBytes), $"one of it and {nameof(options.MemoryBudgetPercent)}", "both");
        Require(options.MemoryBudgetBytes is null or > 0, nameof(options.MemoryBudgetBytes), "above 0", options.MemoryBudgetBytes);
        Require(
            options.MemoryBudgetPercent is null || (double.IsFinite(options.MemoryBudgetPercent.Value) && options.MemoryBudgetPercent > 0),
            nameof(options.MemoryBudgetPercent), "a number above 0", options.MemoryBudgetPercent);
        foreach ((string tenant, KvTenantQuota quota) in options.TenantQuotas ?? NoQuotas)
        {
            Require(quota is not null && KvText.Flaw(tenant) is null, nameof(options.TenantQuotas), "a quota for each tenant, whose name UTF-8 can say", $"'{tenant}'");
        }

        Require(options.Watermark is > 0 and <= 1, nameof(options.Watermark), "above 0, at most 1", options.Watermark);
    }

    // Blocks that are fetched at once lie in one array.
    private static void CheckBlocks(KvCacheOptions options, PageClasses classes)
    {
        KvGeometry geometry = classes.Shape.Geometry;
        PageLayout[] layers = [.. Enumerable.Range(0, geometry.Layers).Select(layer => classes.Shape.Classes[classes.SealedIn(layer)])];
        long most = Array.MaxLength / KvLayouts.BlockBytesOf(layers, geometry.KvHeads);
        Require(
            options.Tiers.Count == 0 || options.PrefetchSize <= most,
            nameof(options.PrefetchSize), $"at most {most} blocks of {KvLayouts.BlockBytesOf(layers, geometry.KvHeads)} bytes", options.PrefetchSize);
    }

    private static void CheckTiers(KvCacheOptions options)
    {
        Require(options.SwapBudgetBytes is null or >= 0, nameof(options.SwapBudgetBytes), "0 or more", options.SwapBudgetBytes);
        Require(options.Tiers is not null && options.Tiers.All(tier => tier is not null), nameof(options.Tiers), "a list of tiers", "null");
        Require(options.Tiers!.Count == 0 || options.PrefixReuse, nameof(options.Tiers), $"{nameof(options.PrefixReuse)}, without which no block has a key", "it alone");
        Require(
            options.Tiers.Count == 0 || options.ModelFingerprint is not null,
            nameof(options.Tiers), $"{nameof(options.ModelFingerprint)}, without which blocks of another model would be taken for this one's", "it alone");
        Require(Enum.IsDefined(options.Backup), nameof(options.Backup), "WhenSealed or WhenReleased", options.Backup);
        Require(options.PrefetchSize is >= 1 and <= 64, nameof(options.PrefetchSize), "1..64", options.PrefetchSize);
        Require(
            options.RecomputeTokensPerSecond is null || (double.IsFinite(options.RecomputeTokensPerSecond.Value) && options.RecomputeTokensPerSecond > 0),
            nameof(options.RecomputeTokensPerSecond), "a number above 0", options.RecomputeTokensPerSecond);
    }

    private static void CheckPolicy(KvCacheOptions options, KvGeometry geometry)
    {
        string rope = $"a geometry with {nameof(KvGeometry.Rope)}";
        Require(options.PlanEvery >= 1, nameof(options.PlanEvery), "at least 1", options.PlanEvery);
        Require(options.ScoreEvery >= 1, nameof(options.ScoreEvery), "at least 1", options.ScoreEvery);
        Require(
            options.ObservedQueries is >= 1 and <= KernelBatch.MaxObserved,
            nameof(options.ObservedQueries), $"1..{KernelBatch.MaxObserved}", options.ObservedQueries);
        Require(!options.MergePages || options.Policy is not null, nameof(options.MergePages), "a policy that evicts pages", "none");
        Require(!options.MergePages || geometry.Rope is not null, nameof(options.MergePages), rope, "none");
        Require(
            geometry.Rope is not null || options.Policy?.Needs.Has(KvStatistics.FutureQueries) != true,
            nameof(options.Policy), $"{rope}, or a policy that foresees no queries", options.Policy?.GetType().Name);
    }

    private static void CheckOffload(KvCacheOptions options, KvGeometry geometry)
    {
        if (options.Offload is { } offload)
        {
            string option = nameof(options.Offload);
            Require(options.Policy is not null, option, "a policy that lets pages go", "none");
            Require(!options.MergePages, option, $"pages of one place each, without {nameof(options.MergePages)}", "both");
            Require(offload.BudgetBytes > 0, $"{option}.{nameof(offload.BudgetBytes)}", "above 0", offload.BudgetBytes);
            Require(offload.SelectedPages is null or >= 1, $"{option}.{nameof(offload.SelectedPages)}", "at least 1", offload.SelectedPages);
            Require(
                offload.StagedPages is null || offload.StagedPages >= geometry.KvHeads,
                $"{option}.{nameof(offload.StagedPages)}", $"at least {geometry.KvHeads}, one for each KV head", offload.StagedPages);
        }
    }

    private static void CheckFormats(KvCacheOptions options, KvGeometry geometry)
    {
        Require(
            Enum.IsDefined(options.FullPrecision) && options.FullPrecision.IsFullPrecision(),
            nameof(options.FullPrecision), "F32, F16 or BF16", options.FullPrecision);
        Require(options.KeyScales?.IsFor(geometry) != false, nameof(options.KeyScales), KvKeyScales.TextFor(geometry), options.KeyScales);
        Require(options.EdgeLayers >= 0, nameof(options.EdgeLayers), "at least 0", options.EdgeLayers);
        Require(Enum.IsDefined(options.NonFinite), nameof(options.NonFinite), "Reject or Keep", options.NonFinite);
        Require(Enum.IsDefined(options.AttentionPrecision), nameof(options.AttentionPrecision), "Exact or Fast", options.AttentionPrecision);
        RequirePair(new KvFormats(options.KeyFormat, options.ValueFormat), geometry, nameof(options.KeyFormat), nameof(options.ValueFormat));
        foreach ((int layer, KvFormats formats) in options.LayerFormats ?? NoLayerFormats)
        {
            string option = $"{nameof(options.LayerFormats)}[{layer}]";
            Require(layer >= 0 && layer < geometry.Layers, option, $"layers 0..{geometry.Layers - 1}", $"layer {layer}");
            RequirePair(formats, geometry, $"{option}.{nameof(formats.Key)}", $"{option}.{nameof(formats.Value)}");
        }

        Require(options.DemotionFormats is not null, nameof(options.DemotionFormats), "a list", "null");
        for (int i = 0; i < options.DemotionFormats!.Count; i++)
        {
            string option = $"{nameof(options.DemotionFormats)}[{i}]";
            RequirePair(options.DemotionFormats[i], geometry, $"{option}.{nameof(KvFormats.Key)}", $"{option}.{nameof(KvFormats.Value)}");
        }
    }

    private static void RequirePair(KvFormats formats, KvGeometry geometry, string keyOption, string valueOption)
    {
        RequireFormat(formats.Key, geometry.KeyWidth, keyOption, "key");
        RequireFormat(formats.Value, geometry.ValueWidth, valueOption, "value");
        Require(PageFormats.IsPair(formats.Key, formats.Value), $"{keyOption}, {valueOption}", KvFormats.ExpectedPair, formats);
    }

    private static void RequireFormat(PageFormat format, int width, string option, string part)
    {
        Require(Enum.IsDefined(format), option, "a page format", format);
        Require(part == "key" ? format.IsForKeys() : format.IsForValues(), option, $"a format of {part}s", format.Name());
        RequireWidth(format, width, option, part);
    }
}
