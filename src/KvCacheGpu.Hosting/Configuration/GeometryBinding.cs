namespace KvCacheGpu.Hosting;

/// <summary>Reads the model's shape from a section: the names of its members, and KvHeads with FirstKvHead for a shard.</summary>
internal static class GeometryBinding
{
    public static KvGeometry Read(SettingValue section)
    {
        int? layers = null, queryHeads = null, kvHeads = null, keyWidth = null;
        (int firstKvHead, int valueWidth, int pageTokens) = (0, 0, 64);
        float? scale = null, cap = null;
        KvRope? rope = null;
        section.Read(new Dictionary<string, Action<SettingValue>>
        {
            [nameof(KvGeometry.Layers)] = v => layers = v.Int32,
            [nameof(KvGeometry.QueryHeads)] = v => queryHeads = v.Int32,
            [nameof(KvGeometry.KvHeads)] = v => kvHeads = v.Int32,
            ["FirstKvHead"] = v => firstKvHead = v.Int32,
            [nameof(KvGeometry.KeyWidth)] = v => keyWidth = v.Int32,
            [nameof(KvGeometry.ValueWidth)] = v => valueWidth = v.Int32,
            [nameof(KvGeometry.PageTokens)] = v => pageTokens = v.Int32,
            [nameof(KvGeometry.AttentionScale)] = v => scale = (float)v.Double,
            [nameof(KvGeometry.LogitSoftCap)] = v => cap = (float)v.Double,
            [nameof(KvGeometry.Rope)] = v => rope = Rope(v),
        });
        if (layers is null || queryHeads is null || kvHeads is null || keyWidth is null)
        {
            throw section.Not("Layers, QueryHeads, KvHeads and KeyWidth", "not all of them");
        }

        try
        {
            var geometry = new KvGeometry(layers.Value, queryHeads.Value, new HeadRange(firstKvHead, kvHeads.Value), keyWidth.Value, valueWidth, pageTokens) { Rope = rope, LogitSoftCap = cap };
            return scale is { } own ? geometry with { AttentionScale = own } : geometry;
        }
        catch (ArgumentException e)
        {
            throw new KvConfigurationException(section.Path, "a shape that a cache takes", e.Message, e);
        }
    }

    private static KvRope Rope(SettingValue section)
    {
        var rope = new KvRope();
        try
        {
            section.Read(new Dictionary<string, Action<SettingValue>>
            {
                [nameof(KvRope.Theta)] = v => rope = rope with { Theta = v.Double },
                [nameof(KvRope.Width)] = v => rope = rope with { Width = v.Int32 },
                [nameof(KvRope.Factor)] = v => rope = rope with { Factor = v.Double },
                [nameof(KvRope.LowFrequencyFactor)] = v => rope = rope with { LowFrequencyFactor = v.Double },
                [nameof(KvRope.HighFrequencyFactor)] = v => rope = rope with { HighFrequencyFactor = v.Double },
                [nameof(KvRope.OriginalContext)] = v => rope = rope with { OriginalContext = v.Int32 },
            });
            return rope;
        }
        catch (ArgumentException e)
        {
            throw new KvConfigurationException(section.Path, "a rotation that a model has", e.Message, e);
        }
    }
}
