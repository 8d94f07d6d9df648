using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>From the options of a cache: the formats that each layer's pages are sealed in, and the layouts that follow.</summary>
internal static class FormatPlan
{
    private const int FewestLayersWithEdges = 8;
    private const int BitsHeldOffEdges = 4;

    /// <inheritdoc cref="KvCacheOptions.FormatsOf"/>
    public static KvFormats FormatsOf(KvCacheOptions options, KvGeometry geometry, int layer)
    {
        if (options.LayerFormats is { } own && own.TryGetValue(layer, out KvFormats formats))
        {
            return formats;
        }

        (PageFormat key, PageFormat value) = (options.KeyFormat, options.ValueFormat);
        return IsEdge(options, geometry, layer)
            ? new KvFormats(IsSmall(key) ? PageFormat.I8 : key, IsSmall(value) ? PageFormat.I8 : value)
            : new KvFormats(key, value);
    }

    /// <summary>The formats by layer if they are not all the same, else null.</summary>
    public static string? TextOf(KvCacheOptions options, KvGeometry geometry)
    {
        KvFormats[] formats = OfLayers(options, geometry);
        return Array.TrueForAll(formats, f => f == new KvFormats(options.KeyFormat, options.ValueFormat)) ? null : string.Join(' ', formats);
    }

    /// <summary>The classes of pages of a cache, from options that are in range.</summary>
    /// <exception cref="KvConfigurationException">E003: too many different formats, or open pages do not take the width.</exception>
    public static PageClasses ClassesOf(KvCacheOptions options, KvGeometry geometry)
    {
        KvFormats[] ofLayers = OfLayers(options, geometry);
        KvFormats[] sealedFormats = [.. ofLayers.Concat(options.DemotionFormats).Distinct()];
        OptionsCheck.Require(
            sealedFormats.Length < KernelShape.MaxClasses,
            $"{nameof(options.LayerFormats)}, {nameof(options.DemotionFormats)}",
            $"at most {KernelShape.MaxClasses - 1} different pairs of formats",
            sealedFormats.Length);
        PageFormat open = OpenFormat(options, geometry, sealedFormats);
        PageLayout[] classes =
        [
            new PageLayout(geometry, open, open, hasDigest: sealedFormats.Contains(new KvFormats(open, open))),
            .. sealedFormats.Select(f => new PageLayout(geometry, f.Key, f.Value)),
        ];
        int[] ofLayer = [.. ofLayers.Select(f => 1 + Array.IndexOf(sealedFormats, f))];
        int targets = options.DemotionFormats.Aggregate(0, (mask, f) => mask | (1 << (1 + Array.IndexOf(sealedFormats, f))));
        int[] masks = [.. ofLayer.Select((c, layer) => LayerMask(classes, c, TargetsOf(options, geometry, layer, classes, targets)))];
        var shape = new KernelShape(
            geometry, classes, options.RotationSeed, options.MaxSequences, geometry.PagesFor(options.LongestSequence), masks, options.NonFinite == NonFinitePolicy.Keep)
        {
            HasStatistics = options.PageStatistics || options.Needs.HaveScores(),
            Precision = options.AttentionPrecision,
            MeasuresKernels = options.MeasureKernels,
        };
        return new PageClasses(shape, ofLayer, targets, new SealRule(geometry.PageTokens, options.ExactRollbackTokens));
    }

    private static KvFormats[] OfLayers(KvCacheOptions options, KvGeometry geometry) =>
        [.. Enumerable.Range(0, geometry.Layers).Select(layer => FormatsOf(options, geometry, layer))];

    private static bool IsSmall(PageFormat format) => format.BitsPerElement() <= BitsHeldOffEdges;

    private static bool IsEdge(KvCacheOptions options, KvGeometry geometry, int layer) =>
        geometry.Layers >= FewestLayersWithEdges && (layer < options.EdgeLayers || layer >= geometry.Layers - options.EdgeLayers);

    private static int LayerMask(PageLayout[] classes, int sealedIn, int targets) =>
        (1 << KernelShape.Open) | (1 << sealedIn) | Ladder.Reachable(classes, sealedIn, targets);

    // At the edges pages are not demoted below I8 either, unless the layer's formats were chosen for it.
    private static int TargetsOf(KvCacheOptions options, KvGeometry geometry, int layer, PageLayout[] classes, int targets)
    {
        if (!IsEdge(options, geometry, layer) || options.LayerFormats?.ContainsKey(layer) == true)
        {
            return targets;
        }

        for (int c = 1; c < classes.Length; c++)
        {
            targets &= IsSmall(classes[c].KeyFormat) || IsSmall(classes[c].ValueFormat) ? ~(1 << c) : -1;
        }

        return targets;
    }

    // One format for all layers, in which every sealed page of full precision can be opened again without loss.
    private static PageFormat OpenFormat(KvCacheOptions options, KvGeometry geometry, KvFormats[] sealedFormats)
    {
        PageFormat[] full = [.. sealedFormats.SelectMany(f => (PageFormat[])[f.Key, f.Value]).Where(f => f.IsFullPrecision()).Distinct()];
        PageFormat open = full switch
        {
            [] => options.FullPrecision,
            [PageFormat one] => one,
            _ => PageFormat.F32,
        };
        OptionsCheck.RequireWidth(open, geometry.KeyWidth, nameof(options.FullPrecision), "key");
        OptionsCheck.RequireWidth(open, geometry.ValueWidth, nameof(options.FullPrecision), "value");
        return open;
    }
}
