using KvCacheGpu.Kernels;

namespace KvCacheGpu.Tests;

public sealed class FormatConfigTests
{
    private static readonly KvGeometry Deep = new(layers: 9, queryHeads: 2, kvHeads: 2, keyWidth: 16, pageTokens: 4);
    private static readonly KvFormats F16 = new(PageFormat.F16, PageFormat.F16);
    private static readonly KvFormats I8 = new(PageFormat.I8, PageFormat.I8);
    private static readonly KvFormats T4 = new(PageFormat.T4, PageFormat.V4);
    private static readonly KvFormats T2 = new(PageFormat.T2, PageFormat.V2);

    [Theory]
    [InlineData(PageFormat.T4, PageFormat.V4, PageFormat.I8, PageFormat.I8)]
    [InlineData(PageFormat.Q4, PageFormat.Q4, PageFormat.I8, PageFormat.I8)]
    [InlineData(PageFormat.I8, PageFormat.V2, PageFormat.I8, PageFormat.I8)]
    [InlineData(PageFormat.T3, PageFormat.I8, PageFormat.I8, PageFormat.I8)]
    [InlineData(PageFormat.FP8, PageFormat.FP8, PageFormat.FP8, PageFormat.FP8)]
    [InlineData(PageFormat.F16, PageFormat.F16, PageFormat.F16, PageFormat.F16)]
    public void Edges_of_8_layers_and_more_stay_in_8_bits_unless_told_otherwise(PageFormat key, PageFormat value, PageFormat edgeKey, PageFormat edgeValue)
    {
        var geometry = new KvGeometry(layers: 9, queryHeads: 2, kvHeads: 2, keyWidth: 32, pageTokens: 4);
        (KvFormats all, KvFormats edge) = (new KvFormats(key, value), new KvFormats(edgeKey, edgeValue));
        KvCacheOptions config = TestCaches.Config(all);
        Assert.Equal([edge, edge, all, all, all, all, all, edge, edge], ByLayer(geometry, config));
        config.LayerFormats = new Dictionary<int, KvFormats> { [0] = T2, [4] = F16 };
        Assert.Equal([T2, edge, all, all, F16, all, all, edge, edge], ByLayer(geometry, config));
        config.EdgeLayers = 0;
        Assert.Equal([T2, all, all, all, F16, all, all, all, all], ByLayer(geometry, config));
        Assert.All(ByLayer(new KvGeometry(7, 2, 2, 32), TestCaches.Config(all)), f => Assert.Equal(all, f));
        using KvCache cache = TestCaches.Reference(geometry, config);
        Assert.Equal(KvCache.LayoutsFor(geometry, config).Sealed.Select(l => new KvFormats(l.KeyFormat, l.ValueFormat)), ByLayer(geometry, config));
    }

    [Fact]
    public void Open_pages_are_what_every_full_precision_can_be_reopened_in()
    {
        PageLayout Open(KvFormats first, params KvFormats[] more)
        {
            KvCacheOptions config = TestCaches.Config(first);
            (config.FullPrecision, config.LayerFormats) = (PageFormat.BF16, more.Index().ToDictionary(m => m.Index + 1, m => m.Item));
            return KvCache.LayoutsFor(Deep, config).Open;
        }

        Assert.Equal(new PageLayout(Deep, PageFormat.F16, PageFormat.F16), Open(F16));
        Assert.Equal(new PageLayout(Deep, PageFormat.BF16, PageFormat.BF16, hasDigest: false), Open(T4));
        Assert.Equal(new PageLayout(Deep, PageFormat.F16, PageFormat.F16), Open(T4, F16, I8));
        Assert.Equal(new PageLayout(Deep, PageFormat.F16, PageFormat.F16, hasDigest: false), Open(new KvFormats(PageFormat.I8, PageFormat.F16)));
        Assert.Equal(new PageLayout(Deep, PageFormat.F32, PageFormat.F32, hasDigest: false), Open(F16, new KvFormats(PageFormat.BF16, PageFormat.BF16)));
    }

    [Fact]
    public void Classes_are_the_layers_layouts_then_the_demotion_targets_that_each_layer_can_reach()
    {
        KvCacheOptions config = TestCaches.Config(T4);
        config.LayerFormats = new Dictionary<int, KvFormats> { [4] = F16, [5] = I8 };
        config.DemotionFormats = [I8, T2, new KvFormats(PageFormat.T3, PageFormat.V3)];
        PageClasses classes = config.ClassesFor(Deep);
        Assert.Equal(
            ["f16/f16", "i8/i8", "t4/v4", "f16/f16", "t2/v2", "t3/v3"],
            classes.Shape.Classes.Select(c => c.ToString()));
        Assert.True(classes.SealsInPlace(4) && !classes.SealsInPlace(5));

        // Bits: 0 open, 1 i8 (the edges), 2 t4, 3 f16, 4 t2, 5 t3. Edges go no lower; one lossy encoding more than the first.
        int[] expected = [0b000011, 0b000011, 0b110101, 0b110101, 0b111011, 0b110011, 0b110101, 0b000011, 0b000011];
        Assert.Equal(expected, classes.Shape.LayerClasses);
    }

    [Fact]
    public void What_is_no_pair_or_not_taken_is_E003_by_name()
    {
        Refused(c => c.KeyFormat = PageFormat.T4, "KeyFormat, ValueFormat", "t4/v4", "t4/f16");
        Refused(c => c.KeyFormat = PageFormat.V4, "KeyFormat", "a format of keys", "v4");
        Refused(c => c.ValueFormat = PageFormat.T2, "ValueFormat", "a format of values", "t2");
        Refused(c => (c.KeyFormat, c.ValueFormat) = (PageFormat.Q8, PageFormat.Q8), "KeyFormat", "multiple of 32", "16");
        Refused(c => c.LayerFormats = new Dictionary<int, KvFormats> { [9] = F16 }, "LayerFormats[9]", "layers 0..8", "layer 9");
        Refused(c => c.LayerFormats = new Dictionary<int, KvFormats> { [-1] = F16 }, "LayerFormats[-1]", "layers 0..8", "layer -1");
        Refused(c => c.LayerFormats = new Dictionary<int, KvFormats> { [3] = new(PageFormat.T4, PageFormat.V3) }, "LayerFormats[3].Key, LayerFormats[3].Value", "t4/v4", "t4/v3");
        Refused(c => c.LayerFormats = new Dictionary<int, KvFormats> { [3] = new((PageFormat)99, PageFormat.V3) }, "LayerFormats[3].Key", "a page format", "99");
        Refused(c => c.DemotionFormats = [I8, new(PageFormat.F16, PageFormat.F32)], "DemotionFormats[1].Key, DemotionFormats[1].Value", "t4/v4", "f16/f32");
        Refused(c => c.DemotionFormats = null!, "DemotionFormats", "a list", "null");
        Refused(c => c.EdgeLayers = -1, "EdgeLayers", "at least 0", "-1");
        Refused(c => c.NonFinite = (NonFinitePolicy)7, "NonFinite", "Reject or Keep", "7");
    }

    [Fact]
    public void A_namespace_tells_layers_apart_and_is_as_it_was_where_they_are_alike()
    {
        KvCacheOptions config = TestCaches.Config(F16);
        Assert.Null(config.LayerFormatsText(Deep));
        config.LayerFormats = new Dictionary<int, KvFormats> { [1] = I8 };
        Assert.StartsWith("f16/f16 i8/i8 f16/f16", config.LayerFormatsText(Deep), StringComparison.Ordinal);
        Assert.NotEqual(new PrefixNamespace().ToHash(), new PrefixNamespace { LayerFormats = "i8/i8" }.ToHash());
    }

    private static void Refused(Action<KvCacheOptions> change, string setting, string expected, string actual)
    {
        KvCacheOptions config = TestCaches.Config(F16);
        change(config);
        KvConfigurationException refused = Assert.Throws<KvConfigurationException>(() => TestCaches.Reference(Deep, config));
        Assert.StartsWith($"E003: {setting}:", refused.Message, StringComparison.Ordinal);
        Assert.Contains(expected, refused.Expected, StringComparison.Ordinal);
        Assert.Contains(actual, refused.Actual, StringComparison.Ordinal);
    }

    private static IEnumerable<KvFormats> ByLayer(KvGeometry geometry, KvCacheOptions config) =>
        Enumerable.Range(0, geometry.Layers).Select(layer => config.FormatsOf(geometry, layer));
}
