using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <content>Which layer's pages are sealed in what.</content>
public sealed partial class KvCacheConfig
{
    private const int FewestLayersWithEdges = 8;
    private const int BitsHeldOffEdges = 4;

    /// <summary>The formats that a layer's pages are sealed in: <see cref="LayerFormats"/>, else those of all, in I8 at least at the edges.</summary>
    /// <param name="geometry">The model's shape.</param>
    /// <param name="layer">Layer.</param>
    public KvFormats FormatsOf(KvGeometry geometry, int layer)
    {
        ArgumentNullException.ThrowIfNull(geometry);
        KvCache.ThrowIfOutside(layer, geometry.Layers, nameof(layer));
        if (LayerFormats is { } own && own.TryGetValue(layer, out KvFormats formats))
        {
            return formats;
        }

        return IsEdge(geometry, layer)
            ? new KvFormats(IsSmall(KeyFormat) ? PageFormat.I8 : KeyFormat, IsSmall(ValueFormat) ? PageFormat.I8 : ValueFormat)
            : new KvFormats(KeyFormat, ValueFormat);
    }

    /// <summary>Formats by layer where they are not all alike, else null.</summary>
    internal string? LayerFormatsText(KvGeometry geometry)
    {
        KvFormats[] formats = [.. Enumerable.Range(0, geometry.Layers).Select(layer => FormatsOf(geometry, layer))];
        return Array.TrueForAll(formats, f => f == new KvFormats(KeyFormat, ValueFormat)) ? null : string.Join(' ', formats);
    }

    private static bool IsSmall(PageFormat format) => format.BitsPerElement() <= BitsHeldOffEdges;

    private bool IsEdge(KvGeometry geometry, int layer) =>
        geometry.Layers >= FewestLayersWithEdges && (layer < EdgeLayers || layer >= geometry.Layers - EdgeLayers);

    private PageClasses ClassesOf(KvGeometry geometry)
    {
        KvFormats[] ofLayers = [.. Enumerable.Range(0, geometry.Layers).Select(layer => FormatsOf(geometry, layer))];
        KvFormats[] sealedFormats = [.. ofLayers.Concat(DemotionFormats).Distinct()];
        Require(
            sealedFormats.Length < KernelShape.MaxClasses,
            $"{nameof(LayerFormats)}, {nameof(DemotionFormats)}", $"at most {KernelShape.MaxClasses - 1} different pairs of formats", sealedFormats.Length);
        PageFormat open = OpenFormat(geometry, sealedFormats);
        PageLayout[] classes =
        [
            new PageLayout(geometry, open, open, hasDigest: sealedFormats.Contains(new KvFormats(open, open))),
            .. sealedFormats.Select(f => new PageLayout(geometry, f.Key, f.Value)),
        ];
        int[] ofLayer = [.. ofLayers.Select(f => 1 + Array.IndexOf(sealedFormats, f))];
        int targets = DemotionFormats.Aggregate(0, (mask, f) => mask | (1 << (1 + Array.IndexOf(sealedFormats, f))));
        int[] masks = [.. ofLayer.Select((c, layer) => LayerMask(geometry, layer, classes, c, targets))];
        var shape = new KernelShape(
            geometry, classes, RotationSeed, MaxSequences, geometry.PagesFor(MaxTokens), masks, NonFinite == NonFinitePolicy.Keep);
        return new PageClasses(shape, ofLayer, targets);
    }

    // At the edges I8 holds for demotion too, unless the layer's formats were chosen for it.
    private int LayerMask(KvGeometry geometry, int layer, PageLayout[] classes, int sealedIn, int targets)
    {
        for (int c = 1; c < classes.Length; c++)
        {
            bool isSmall = IsSmall(classes[c].KeyFormat) || IsSmall(classes[c].ValueFormat);
            if (isSmall && IsEdge(geometry, layer) && LayerFormats?.ContainsKey(layer) != true)
            {
                targets &= ~(1 << c);
            }
        }

        return (1 << KernelShape.Open) | (1 << sealedIn) | Ladder.Reachable(classes, sealedIn, targets);
    }

    // One for all layers, in which every sealed page that is in full precision can be reopened as it is.
    private PageFormat OpenFormat(KvGeometry geometry, KvFormats[] sealedFormats)
    {
        PageFormat[] full = [.. sealedFormats.SelectMany(f => (PageFormat[])[f.Key, f.Value]).Where(f => f.IsFullPrecision()).Distinct()];
        PageFormat open = full switch
        {
            [] => FullPrecision,
            [PageFormat one] => one,
            _ => PageFormat.F32,
        };
        RequireWidth(open, geometry.KeyWidth, nameof(FullPrecision), "key");
        RequireWidth(open, geometry.ValueWidth, nameof(FullPrecision), "value");
        return open;
    }
}
