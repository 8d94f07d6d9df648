using KvCacheGpu.Kernels;

namespace KvCacheGpu;

/// <summary>
/// What the keys mean to a <see cref="KvCache"/>:
/// <code>
/// key                                      setting
///   cache_strategy, cache_mode             Policy, its sinks and window; MaxBatchTokens
///   use_quantization, quantization_bits    KeyFormat, ValueFormat
///   use_compression, _ratio, _method       KeyFormat, ValueFormat
///   adaptive_compression, _quantization    DemotionFormats
///   dtype                                  FullPrecision
///   max_memory_mb                          MemoryBudgetBytes
///   enable_gc, gc_threshold                Watermark
/// </code>
/// What code has set on the same configuration wins.
/// </summary>
internal static class EngineSettings
{
    private const long BytesPerMb = 1 << 20;
    private const int SinkTokens = 4;

    // The most precise first.
    private static readonly KvFormats[] Rungs =
    [
        new(PageFormat.I8, PageFormat.I8),
        new(PageFormat.I8, PageFormat.V4),
        new(PageFormat.T4, PageFormat.V4),
        new(PageFormat.T3, PageFormat.V3),
        new(PageFormat.T2, PageFormat.V2),
    ];

    /// <summary>The settings of the cache below an engine, from a configuration without issues.</summary>
    public static KvCacheConfig Resolve(KvCacheConfig config, KvGeometry geometry)
    {
        KvCacheConfig settings = config.Copy();
        KvFormats formats = Formats(config, geometry);
        settings.FullPrecision = Full(config);
        settings.KeyFormat = formats.Key;
        settings.ValueFormat = formats.Value;
        settings.Policy = config.Policy ?? Policy(config);
        settings.MaxBatchTokens = config.ChosenBatchTokens ?? StepTokens(config.CacheMode);
        settings.Watermark = config.ChosenWatermark ?? (config.Memory.EnableGc ? config.Memory.GcThreshold : 1);
        settings.PrefixReuse = false;
        if (config.DemotionFormats.Count == 0)
        {
            settings.DemotionFormats = Ladder(config, geometry, formats);
        }

        if (config.MemoryBudgetBytes is null && config.MemoryBudgetPercent is null)
        {
            settings.MemoryBudgetBytes = config.Memory.MaxMemoryMb * BytesPerMb;
        }

        return settings;
    }

    /// <summary>What the formats cannot do.</summary>
    public static IEnumerable<KvConfigurationWarning> WarningsOf(KvCacheConfig config, KvGeometry geometry)
    {
        KvFormats formats = Formats(config, geometry);
        double kept = Fraction(config, geometry, formats);
        if (Compresses(config) && kept > config.Compression.CompressionRatio)
        {
            yield return new KvConfigurationWarning(
                "compression_ratio", FormattableString.Invariant($"not reached: pages in {formats} keep {kept:0.00} of {config.Compression.CompressionRatio}"));
        }

        if (Quantizes(config) && config.Compression.QuantizationBits < 16 && formats.Key.IsFullPrecision())
        {
            yield return new KvConfigurationWarning("quantization_bits", $"inactive: no such format takes heads of width {geometry.KeyWidth}");
        }
    }

    private static KvFormats Formats(KvCacheConfig config, KvGeometry geometry)
    {
        PageFormat full = Full(config);
        KvFormats formats = ChosenByKeys(config, geometry) ?? new KvFormats(full, full);
        return (config.ChosenKeyFormat, config.ChosenValueFormat) switch
        {
            (null, null) => formats,
            ({ } key, { } value) => new KvFormats(key, value),
            ({ } key, null) => PageFormats.IsPair(key, formats.Value) ? formats with { Key = key } : Pair(key),
            (null, { } value) => PageFormats.IsPair(formats.Key, value) ? formats with { Value = value } : new KvFormats(PageFormat.I8, value),
        };
    }

    private static KvFormats? ChosenByKeys(KvCacheConfig config, KvGeometry geometry)
    {
        if (Quantizes(config))
        {
            return config.Compression.QuantizationBits switch
            {
                8 => Taken(Rungs[0]),
                4 => Taken(Rungs[2]),
                3 => Taken(Rungs[3]),
                2 => Taken(Rungs[4]),
                _ => null,
            };
        }

        if (!Compresses(config))
        {
            return null;
        }

        if (PageFormats.TryParse(config.Compression.CompressionMethod, out PageFormat method))
        {
            return Pair(method);
        }

        if (config.Compression.CompressionRatio >= 1)
        {
            return null;
        }

        KvFormats[] taken = [.. Rungs.Where(rung => Takes(geometry, rung))];
        return taken.Where(rung => Fraction(config, geometry, rung) <= config.Compression.CompressionRatio).Concat(taken.TakeLast(1)).Cast<KvFormats?>().FirstOrDefault();

        KvFormats? Taken(KvFormats rung) => Takes(geometry, rung) ? rung : null;
    }

    private static IReadOnlyList<KvFormats> Ladder(KvCacheConfig config, KvGeometry geometry, KvFormats formats)
    {
        bool may = Quantizes(config) ? config.Compression.AdaptiveQuantization : Compresses(config) && config.Compression.AdaptiveCompression;
        if (config.CacheStrategy != KvCacheStrategy.Adaptive || !may)
        {
            return [];
        }

        return
        [
            .. new[] { Rungs[0], Rungs[2], Rungs[4] }.Where(rung => Takes(geometry, rung)
                && KvCacheGpu.Ladder.Allows(new PageLayout(geometry, formats.Key, formats.Value), new PageLayout(geometry, rung.Key, rung.Value), default)),
        ];
    }

    private static bool Quantizes(KvCacheConfig config) => config.Compression.UseQuantization || config.CacheStrategy == KvCacheStrategy.Quantized;

    private static bool Compresses(KvCacheConfig config) =>
        !Quantizes(config) && (config.Compression.UseCompression || config.CacheStrategy == KvCacheStrategy.Compressed);

    private static KvPolicy? Policy(KvCacheConfig config)
    {
        int quarter = Math.Max(1, config.MaxTokens / 4);
        int window = Math.Min(config.CacheMode == KvCacheMode.Interactive ? 256 : 64, quarter);
        return (config.CacheStrategy, config.CacheMode) switch
        {
            (KvCacheStrategy.Paged or KvCacheStrategy.Compressed or KvCacheStrategy.Quantized, _) => null,
            (_, KvCacheMode.Streaming) => new WindowPolicy(SinkTokens, quarter),
            (KvCacheStrategy.Lru, _) => new LruPolicy { WindowTokens = window },
            (KvCacheStrategy.Lfu, _) => new LfuPolicy { WindowTokens = window },
            _ => new AdaptivePolicy { WindowTokens = window },
        };
    }

    private static int StepTokens(KvCacheMode mode) => mode switch
    {
        KvCacheMode.Bulk => 2048,
        KvCacheMode.Streaming or KvCacheMode.Interactive => 128,
        _ => 512,
    };

    private static PageFormat Full(KvCacheConfig config) => config.ChosenFullPrecision ?? config.Compression.Dtype switch
    {
        KvDtype.BFloat16 => PageFormat.BF16,
        KvDtype.Float32 => PageFormat.F32,
        _ => PageFormat.F16,
    };

    private static KvFormats Pair(PageFormat format) => format switch
    {
        PageFormat.T4 or PageFormat.V4 => new KvFormats(PageFormat.T4, PageFormat.V4),
        PageFormat.T3 or PageFormat.V3 => new KvFormats(PageFormat.T3, PageFormat.V3),
        PageFormat.T2 or PageFormat.V2 => new KvFormats(PageFormat.T2, PageFormat.V2),
        _ => new KvFormats(format, format),
    };

    private static bool Takes(KvGeometry geometry, KvFormats formats) => formats.Key.Takes(geometry.KeyWidth) && formats.Value.Takes(geometry.ValueWidth);

    private static double Fraction(KvCacheConfig config, KvGeometry geometry, KvFormats formats) =>
        !Takes(geometry, formats) ? 1 : (double)PageBytes(geometry, formats) / PageBytes(geometry, new KvFormats(Full(config), Full(config)));

    private static int PageBytes(KvGeometry geometry, KvFormats formats) => new PageLayout(geometry, formats.Key, formats.Value).Bytes;
}
